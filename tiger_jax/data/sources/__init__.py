"""Readers of raw data: Amazon reviews, your own files, the synthetic shop."""
