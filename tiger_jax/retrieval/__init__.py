"""Recommends items: the beam search, and the search over item vectors."""
