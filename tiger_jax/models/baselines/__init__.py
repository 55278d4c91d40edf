"""Models that score items, to compare with TIGER."""
