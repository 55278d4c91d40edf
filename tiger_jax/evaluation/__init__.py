"""The one evaluation loop, and metrics."""
