"""Saves, checks and restores the state of a training run.

Orbax reads and writes the arrays of a checkpoint. Its `CheckpointManager` is
not used. In tests with orbax-checkpoint 0.12.8, it broke four guarantees of
this package:

- It moves a new checkpoint to its final name and then removes older ones.
  Between these steps, it offers no way to read the new checkpoint back. After a
  corrupted write, only the corrupted checkpoint was left.
- If the metrics of a checkpoint are damaged, it raises an error when the folder
  is opened, or it ranks by the damaged value and removes the best checkpoint.
- If a symbolic link takes the place of the folder, it writes through the link.
- In a folder named `a[1-3]b`, it saves without an error, but nothing can be
  restored.

`CheckpointManager` would replace about 100 lines (retention, the writer thread,
removal), but working around these problems would also take about 100 lines.
"""
