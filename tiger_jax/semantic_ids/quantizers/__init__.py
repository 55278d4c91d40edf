"""Quantizers, which turn item embeddings into codes."""
