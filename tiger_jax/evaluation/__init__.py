"""The evaluation loop and the metrics."""
