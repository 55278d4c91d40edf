"""Ranges of batch numbers that a run skips.

Batches are numbered from 0. A run trains on the batches in order, one per step,
and skips the batches of the ranges. A range `(start, stop)` contains the
batches from `start` to `stop - 1`. The ranges are sorted, and no two ranges
overlap or are adjacent. Without ranges, step i (counted from 1) trains on batch
i - 1.
"""

from collections.abc import Callable, Iterable, Iterator
import itertools
from typing import Any

import jax

Ranges = tuple[tuple[int, int], ...]


def from_json(value: Any) -> Ranges:
  """Returns the ranges in the `meta` of a checkpoint.

  Args:
    value: A list of pairs. Earlier versions wrote a number n instead, and added
      n to the batch numbers of all later steps. The number becomes the range of
      the first n batches.

  Raises:
    ValueError: The value is neither a list of ranges nor a number.
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
  """Returns the number of the batch of the step after `num_steps` steps."""
  number = num_steps
  for start, stop in ranges:
    if number >= start:
      number += stop - start
  return number


def last_start(ranges: Ranges, num_steps: int) -> int:
  """Returns the number of steps before the last range that a run has skipped.

  A range directly before the batch of the next step counts as skipped.

  Args:
    ranges: The skipped ranges.
    num_steps: The number of steps done.

  Returns:
    The number of steps before the range; 0 if no range was skipped.
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
    ranges: The ranges that are already skipped.
    start: The number of steps before the first step to skip.
    stop: The last step to skip.
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
  """Yields the batch numbers of the steps `start + 1` to `stop`, as ranges."""
  number, num_left = batch_number(ranges, start), stop - start
  for first, end in ranges:
    if first > number and num_left:
      size = min(first - number, num_left)
      yield number, number + size
      number, num_left = end, num_left - size
  if num_left:
    yield number, number + num_left


def read(
  batches: Callable[[int, int], Iterable[Any]],
  ranges: Ranges,
  start: int,
  stop: int,
) -> Iterator[tuple[int, Any]]:
  """Yields the stacks of the steps `start + 1` to `stop`.

  Args:
    batches: A function `(first, end)` that yields the batches `first` to
      `end - 1` in stacks.
    ranges: The skipped ranges. Each consists of whole stacks.
    start: The number of steps done.
    stop: The last step.

  Yields:
    The number of the first batch of a stack, and the stack.
  """
  for number, end in segments(ranges, start, stop):
    for stack in batches(number, end):
      yield number, stack
      number += len(jax.tree.leaves(stack)[0])


def to_text(ranges: Ranges) -> str:
  """Formats the ranges for a message, for example `4 to 6, 9 to 11`."""
  return ', '.join(f'{start} to {stop - 1}' for start, stop in ranges)
