"""One train loop for every model."""
