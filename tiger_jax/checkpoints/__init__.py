"""Saves, checks and restores the state of a training run.

Orbax reads and writes the arrays of a checkpoint. Its `CheckpointManager` is
not used. In tests with orbax-checkpoint 0.12.8, it broke four guarantees of
this package:

- It moves a checkpoint to its final name and then removes older ones. It offers
  no way to read the new one back in between. After a corrupted write, only the
  corrupted checkpoint was left.
- If the metrics of a checkpoint are damaged, it raises an error when the folder
  is opened, or it ranks by the damaged value and removes the best checkpoint.
- It writes through a symbolic link in place of the folder.
- In a folder named `a[1-3]b`, it saves without an error, but nothing can be
  restored.

`CheckpointManager` would replace about 100 lines (retention, the writer thread,
removal), but working around these problems would take as many lines.
"""
