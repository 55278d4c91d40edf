"""The process: devices, other processes, signals, output and measurements."""
