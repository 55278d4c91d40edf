"""Flax modules only: the Transformer and the recommenders made of it."""
