"""Selects the checkpoints of a run that are kept, and ranks them."""

import bisect
import math

# The minimum number of latest checkpoints to keep. An older checkpoint is used
# if the newest is damaged.
_MIN_LATEST = 3


def latest(steps: list[int], reach: int) -> list[int]:
  """Returns the steps of the latest checkpoints, which are kept.

  The three newest checkpoints are kept. Also kept is the latest checkpoint that
  is at least `reach` steps older than the newest, with all checkpoints after
  it. If no checkpoint is old enough, all are kept.

  Args:
    steps: The steps of all undamaged checkpoints, in order.
    reach: The number of steps that a run may go back from the newest
      checkpoint.
  """
  if not steps:
    return []
  first = bisect.bisect_right(steps, steps[-1] - reach) - 1
  return steps[max(0, min(first, len(steps) - _MIN_LATEST)) :]


def ranked(values: dict[int, float]) -> list[int]:
  """Returns steps in order of their metric, the best first.

  If two metrics are equal, the earlier step comes first. NaN comes last.
  """
  return sorted(
    values, key=lambda step: (math.isnan(values[step]), -values[step], step)
  )
