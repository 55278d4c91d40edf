"""Embeddings: one vector for the text of each item."""
