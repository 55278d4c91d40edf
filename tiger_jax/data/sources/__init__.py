"""Kinds of datasets: known shops, your own files, the synthetic shop."""
