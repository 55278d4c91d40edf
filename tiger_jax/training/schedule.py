"""How long to train, and what to do when numbers go wrong."""

import math
from typing import NamedTuple


class Rewind(NamedTuple):
  """How a run continues after a value that is not finite.

  The run restores a checkpoint, repeats its steps up to `back` steps before the
  bad one, and skips `skip` batches from there, the bad one always included, in
  whole calls of `steps_per_call` steps.
  """

  back: int
  skip: int
  steps_per_call: int = 1

  def window(self, step: int, earliest: int = 0) -> tuple[int, int]:
    """Returns `(start, stop)`: the steps `start + 1` to `stop` are skipped.

    Both are rounded outwards to whole calls; the bad step counts from 1.
    `earliest` is the smallest start, a multiple of `steps_per_call`.
    """
    start = max(earliest, step - 1 - self.back)
    stop = max(start + self.skip, step)
    size = self.steps_per_call
    return start // size * size, math.ceil(stop / size) * size


class Schedule(NamedTuple):
  """The number of steps of a training, and how often it stops to look.

  Logs, checkpoints (with evaluations) and signals wait for the end of a call of
  the device. Without `rewind`, a value that is not finite ends the run.
  """

  num_steps: int
  log_every: int
  save_every: int
  rewind: Rewind | None = None

  @property
  def reach(self) -> int:
    """How many steps before the latest checkpoint a window may start.

    All steps before a checkpoint are finite, so a bad step comes after it.
    """
    if not self.rewind:
      return 0
    size = self.rewind.steps_per_call
    return math.ceil(self.rewind.back / size) * size
