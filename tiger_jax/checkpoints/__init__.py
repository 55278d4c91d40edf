"""Saves, checks and restores the state of a training."""
