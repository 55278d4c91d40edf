"""Item text to vectors: one sentence an item, one vector a sentence."""
