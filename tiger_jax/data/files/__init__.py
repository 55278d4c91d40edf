"""Reads the rows of files: CSV, JSON Lines and Parquet, plain or compressed."""
