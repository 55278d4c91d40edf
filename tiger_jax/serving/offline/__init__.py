"""Recommends items to all users at once, and writes the lists to files."""
