"""The index of the valid Semantic IDs, on the device."""
