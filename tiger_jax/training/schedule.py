"""The length of training, and the policy for values that are not finite."""

import math
from typing import NamedTuple


class Rewind(NamedTuple):
  """The policy for values that are not finite: rewind, then skip batches.

  The bad step is the step that caused such a value. The run restores an earlier
  checkpoint, and repeats the steps up to a window of batches. The batches in
  the window are skipped.

  Attributes:
    back: The number of steps from the start of the window to the bad step.
    skip: The length of the window in batches. The window is extended if it
      would otherwise end before the bad step.
    steps_per_call: The number of steps in one jitted call. A window consists of
      whole calls.
  """

  back: int
  skip: int
  steps_per_call: int = 1

  def window(self, step: int, earliest: int = 0) -> tuple[int, int]:
    """Returns `(start, stop)`: the steps `start + 1` to `stop` are skipped.

    The window is extended to whole calls.

    Args:
      step: The bad step, counted from 1.
      earliest: The smallest allowed start, a multiple of `steps_per_call`.
    """
    start = max(earliest, step - 1 - self.back)
    stop = max(start + self.skip, step)
    size = self.steps_per_call
    return start // size * size, math.ceil(stop / size) * size


class Schedule(NamedTuple):
  """The number of training steps, and the intervals of logs and checkpoints.

  Logs, checkpoints, evaluations and stop signals are handled between jitted
  calls.

  Attributes:
    num_steps: The total number of steps.
    log_every: The number of steps between two log lines.
    save_every: The number of steps between two checkpoints.
    rewind: The policy for values that are not finite. If None, such a value
      ends the run.
  """

  num_steps: int
  log_every: int
  save_every: int
  rewind: Rewind | None = None

  @property
  def reach(self) -> int:
    """How many steps before the newest checkpoint a window may start.

    The bad step comes after the newest checkpoint, because a checkpoint is
    saved only if all values so far are finite.
    """
    if not self.rewind:
      return 0
    size = self.rewind.steps_per_call
    return math.ceil(self.rewind.back / size) * size
