"""Retrieval of items, by beam search or by inner product."""
