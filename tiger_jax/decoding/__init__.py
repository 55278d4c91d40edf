"""Valid Semantic IDs as a device index, and the search through them."""
