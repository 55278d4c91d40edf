"""The five stages of a run: how each is fingerprinted, built and loaded."""
