"""Which checkpoints of a run are kept, and which one is the best."""

import bisect
import math

# How many of the latest are kept at least: the others replace a damaged one.
_KEPT = 3


def kept(steps: list[int], reach: int) -> list[int]:
  """Returns the steps of the checkpoints to keep, besides the best.

  These are the latest ones, and every checkpoint since the newest one that is
  at least `reach` steps older than the latest.

  Args:
    steps: The steps of all checkpoints that are not damaged, in order.
    reach: How many steps before the latest checkpoint a run may go back to.
  """
  if not steps:
    return []
  first = bisect.bisect_right(steps, steps[-1] - reach) - 1
  return steps[max(0, min(first, len(steps) - _KEPT)) :]


def ranked(values: dict[int, float]) -> list[int]:
  """Returns steps by their metric, the best first.

  The earlier of two equal steps comes first, and NaN comes last.
  """
  return sorted(
    values, key=lambda step: (math.isnan(values[step]), -values[step], step)
  )
