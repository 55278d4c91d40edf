"""Flax modules: the Transformer, TIGER, DSI and the baselines."""
