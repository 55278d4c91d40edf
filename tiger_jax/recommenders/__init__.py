"""The registry of models, with their inputs and training tasks."""
