"""Turns results into tables, pictures and the report of a run."""
