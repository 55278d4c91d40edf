"""Saves, checks and restores the state of a training.

Orbax writes and reads the arrays of one checkpoint. Its `CheckpointManager` is
not used for the rest. It was tried with orbax-checkpoint 0.12.8, and it breaks
guarantees that this package gives. It renames a checkpoint to its final name
and removes older ones without a step in between that could read the new one
back: after a spoiled write, the spoiled checkpoint stayed and the good one was
gone. If the metrics of one checkpoint are damaged, it raises an error when the
folder is opened, or it ranks by the changed value and removes the best
checkpoint. It writes through a link in place of the folder. In a folder named
`a[1-3]b` it saves without an error, and nothing can be restored. The code that
it would replace (rules of retention, the thread that writes, removal) has about
100 lines, and the guards around it would take as many.
"""
