"""Which checkpoints of a run are kept."""

import bisect

# The latest are kept: two in case that one is damaged.
_KEPT = 3


def kept(steps: list[int], reach: int) -> list[int]:
  """Returns the steps of the checkpoints to keep, besides the best.

  These are the latest ones, and all from the newest that is at least `reach`
  steps older than the latest.

  Args:
    steps: The steps of all checkpoints that are not damaged, in order.
    reach: How many steps before the latest checkpoint a run may go back to.
  """
  first = bisect.bisect_right(steps, steps[-1] - reach) - 1
  return steps[max(0, min(first, len(steps) - _KEPT)) :]
