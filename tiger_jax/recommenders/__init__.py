"""The table of models, their inputs and their training tasks."""
