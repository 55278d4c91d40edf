"""The batches that a run skips: ranges of batch numbers.

Batches are numbered from 0. A run trains on them in this order, one per step,
except that it skips the ranges. Each range is `(start, stop)` and skips the
batches from `start` up to `stop - 1`. The ranges are in order and do not touch.
Without ranges, step i (counted from 1) trains on batch i - 1.
"""

from collections.abc import Callable, Iterable, Iterator
import itertools
from typing import Any

import jax

Ranges = tuple[tuple[int, int], ...]


def from_json(value: Any) -> Ranges:
  """Returns the ranges in the `meta` of a checkpoint.

  Args:
    value: A list of pairs. Earlier versions wrote one number n instead, which
      added n to the batch numbers of all later steps. It becomes the range of
      the first n batches.

  Raises:
    ValueError: It is neither.
  """
  pairs = [[0, value]] * (value != 0) if type(value) is int else value
  is_list = isinstance(pairs, list) and all(
    isinstance(pair, list)
    and [type(x) for x in pair] == [int, int]
    and 0 <= pair[0] < pair[1]
    for pair in pairs
  )
  if not is_list or any(x[1] >= y[0] for x, y in itertools.pairwise(pairs)):
    raise ValueError(f'skipped of meta.json is {value!r:.40}')
  return tuple((start, stop) for start, stop in pairs)


def batch_number(ranges: Ranges, num_steps: int) -> int:
  """Returns the number of the batch that follows `num_steps` steps."""
  number = num_steps
  for start, stop in ranges:
    if number >= start:
      number += stop - start
  return number


def last_start(ranges: Ranges, num_steps: int) -> int:
  """Returns how many steps come before the last range that a run has reached.

  Args:
    ranges: The skipped ranges.
    num_steps: The number of steps done. Later ranges are ignored.

  Returns:
    The number of steps; 0 without such a range.
  """
  steps_before = num_skipped = 0
  for start, stop in ranges:
    if start - num_skipped <= num_steps:
      steps_before = start - num_skipped
    num_skipped += stop - start
  return steps_before


def skip(ranges: Ranges, start: int, stop: int) -> Ranges:
  """Returns the ranges with the batches of steps `start + 1` to `stop` added.

  Args:
    ranges: The ranges that are skipped already.
    start: The number of steps before the first one.
    stop: The last step, more than `start`.
  """
  first = batch_number(ranges, start)
  end = batch_number(ranges, stop - 1) + 1
  touching = [x for x in ranges if x[0] <= end and x[1] >= first]
  first = min([first, *(x[0] for x in touching)])
  end = max([end, *(x[1] for x in touching)])
  return tuple(sorted({*ranges} - {*touching} | {(first, end)}))


def segments(
  ranges: Ranges, start: int, stop: int
) -> Iterator[tuple[int, int]]:
  """Yields the batch numbers of consecutive steps, as ranges.

  Args:
    ranges: The skipped ranges.
    start: The number of steps before the first one.
    stop: The last step.
  """
  number, left = batch_number(ranges, start), stop - start
  for first, end in ranges:
    if first > number and left:
      size = min(first - number, left)
      yield number, number + size
      number, left = end, left - size
  if left:
    yield number, number + left


def read(
  batches: Callable[[int, int], Iterable[Any]],
  ranges: Ranges,
  start: int,
  stop: int,
) -> Iterator[tuple[int, Any]]:
  """Yields the stacks of consecutive steps, each with its first batch number.

  Args:
    batches: `(first, end)` -> the batches of these numbers, in stacks.
    ranges: The skipped ranges, in whole stacks.
    start: The number of steps before the first one.
    stop: The last step.
  """
  for number, end in segments(ranges, start, stop):
    for stack in batches(number, end):
      yield number, stack
      number += len(jax.tree.leaves(stack)[0])


def shown(ranges: Ranges) -> str:
  """Returns the ranges for a message, such as `4 to 6, 9 to 11`."""
  return ', '.join(f'{start} to {stop - 1}' for start, stop in ranges)
