"""How long to train, and what to do when numbers go wrong."""

from typing import NamedTuple


class Rewind(NamedTuple):
  """What to do about numbers that are not finite, instead of giving up.

  Attributes:
    back: Go back to the newest checkpoint that is so many steps older.
    skip: Leave out so many batches from there on.
  """

  back: int
  skip: int


class Schedule(NamedTuple):
  """How long to train and how often to look.

  Logs, checkpoints and signals wait for the end of a call of the device.

  Attributes:
    num_steps: Optimizer steps.
    log_every: Steps between two lines of metrics.
    save_every: Steps between two checkpoints, and two evaluations.
    rewind: What to do about numbers that are not finite; None gives up.
  """

  num_steps: int
  log_every: int
  save_every: int
  rewind: Rewind | None = None
