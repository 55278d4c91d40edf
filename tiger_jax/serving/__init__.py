"""Trained models at work: histories in, titles out."""
