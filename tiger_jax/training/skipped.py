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
  """Returns the ranges that a checkpoint has in its meta.

  Args:
    value: A list of pairs. Earlier versions wrote one number n instead: the
      batches of all later steps had numbers that were larger by n. This is the
      range of the first n batches.

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
  """Returns the number of steps before the last range that is reached.

  Args:
    ranges: What is skipped.
    num_steps: Steps done. Ranges after the batch that follows them are ignored.

  Returns:
    The number; 0 without a range.
  """
  found = size = 0
  for start, stop in ranges:
    if start - size <= num_steps:
      found = start - size
    size += stop - start
  return found


def skip(ranges: Ranges, start: int, stop: int) -> Ranges:
  """Returns the ranges with the batches of steps `start + 1` to `stop` added.

  Args:
    ranges: What is skipped already.
    start: Steps before the first of them.
    stop: Steps up to the last of them, more than `start`.
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
  """Yields the batch numbers of some steps, as ranges that are trained on.

  Args:
    ranges: What is skipped.
    start: Steps before the first of them.
    stop: Steps up to the last of them.
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
  """Yields the stacks of some steps, each with the number of its first batch.

  Args:
    batches: `(first, end)` -> the batches of these numbers, in stacks.
    ranges: What is skipped, in whole stacks.
    start: Steps before the first of them.
    stop: Steps up to the last of them.
  """
  for number, end in segments(ranges, start, stop):
    for stack in batches(number, end):
      yield number, stack
      number += len(jax.tree.leaves(stack)[0])


def shown(ranges: Ranges) -> str:
  """Returns the ranges for a message, such as `4 to 6, 9 to 11`."""
  return ', '.join(f'{start} to {stop - 1}' for start, stop in ranges)
