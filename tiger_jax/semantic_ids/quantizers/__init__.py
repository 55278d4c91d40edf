"""Quantizers, which turn item vectors into codes."""
