"""Baselines: models that score items."""
