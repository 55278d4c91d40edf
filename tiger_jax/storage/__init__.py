"""Safe reads and writes of the files of a run."""
