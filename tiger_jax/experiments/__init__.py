"""The experiments of the paper, on top of everything else."""
