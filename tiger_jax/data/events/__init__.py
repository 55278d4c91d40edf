"""Turns rows into events with numbered ids, and events into a dataset."""
