"""Devices, processes, signals, output and time measurements of a run."""
