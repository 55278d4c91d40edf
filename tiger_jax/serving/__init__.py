"""The Python API for recommendations from a trained model."""
