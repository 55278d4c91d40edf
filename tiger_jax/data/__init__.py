"""Reads raw data or the synthetic shop into datasets, splits and batches."""
