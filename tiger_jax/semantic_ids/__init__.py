"""Item embeddings become Semantic IDs: quantizers, collisions, a report."""
