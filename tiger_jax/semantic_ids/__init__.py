"""Makes Semantic IDs from item embeddings, and measures their quality."""
