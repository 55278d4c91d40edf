"""Metrics and the one evaluator."""
