"""Semantic IDs in sorted order, on the host: what a catalogue is made of."""

from collections.abc import Sequence
import math
from typing import NamedTuple

from jaxtyping import Bool, Integer
import numpy as np

from tiger_jax.errors import DataError


class Nodes(NamedTuple):
  """Prefixes with many items, and the codes that follow each of them.

  Attributes:
    first: The slot of each one's first item, rising.
    start: Where each one's codes begin in `codes`, and where the last end.
    codes: The distinct codes that follow, one prefix after the other.
  """

  first: Integer[np.ndarray, ' nodes']
  start: Integer[np.ndarray, ' nodes+1']
  codes: Integer[np.ndarray, ' children']


def code_dtype(level_size: int) -> np.dtype:
  """Returns the narrowest type that holds a level's codes."""
  return np.min_scalar_type(level_size - 1)


def check_codes(
  codes: Integer[np.ndarray, 'items l'], level_sizes: Sequence[int]
) -> None:
  """Raises a DataError where codes do not fit the levels."""
  if codes.ndim != 2 or codes.shape[1] != len(level_sizes):
    raise DataError(
      f'semantic IDs: an array of shape {codes.shape} does not hold '
      f'{len(level_sizes)} codes an item, as the level sizes '
      f'{tuple(level_sizes)} say; make the IDs again'
    )
  if codes.dtype.kind not in 'iu':
    raise DataError(
      f'semantic IDs: codes are of type {codes.dtype}: give integers'
    )
  if not all(0 < size < 2**31 for size in level_sizes):
    raise DataError(
      f'semantic IDs: level sizes are {tuple(level_sizes)}: give each level '
      'from 1 to 2**31 - 1 codes'
    )
  for level, size in enumerate(level_sizes):
    column = codes[:, level]
    wrong = np.flatnonzero((column < 0) | (column >= size))
    if len(wrong):
      raise DataError(
        f'semantic IDs: a code lies outside the level sizes '
        f'{tuple(level_sizes)}: {column[wrong[0]]} at level {level} of item '
        f'{wrong[0]}; make the IDs again'
      )


def check_rows(rows: Integer[np.ndarray, ' items'], num_items: int) -> None:
  """Raises a DataError where rows are not one for each item."""
  if rows.min(initial=0) < 0:
    raise DataError(f'row {rows.min()} is negative: count rows from 0')
  if rows.max(initial=0) >= 2**31 - 1:
    raise DataError(f'row {rows.max()} is too large: number rows below 2**31')
  taken = np.zeros(rows.max(initial=0) + 1, bool)
  taken[rows] = True
  different = int(taken.sum())
  if len(rows) != num_items or different < len(rows):
    raise DataError(
      f'{len(rows)} rows, {different} of them different, do not number '
      f'{num_items} items: give each item a row of its own'
    )


def sort_order(
  codes: Integer[np.ndarray, 'items l'], level_sizes: Sequence[int]
) -> Integer[np.ndarray, ' items']:
  """Returns the order in which codes rise, first level first.

  Raises:
    DataError: Two rows are the same.
  """
  keys: list[np.ndarray] = []
  space = math.inf
  for column, size in zip(codes.T, level_sizes, strict=True):
    if space * size > 2**63:
      keys.append(np.zeros(len(codes), np.uint64))
      space = 1
    keys[-1] *= np.uint64(size)
    keys[-1] += column.astype(np.uint64)
    space *= size
  rising = len(keys) == 1 and bool((keys[0][1:] > keys[0][:-1]).all())
  if rising:
    return np.arange(len(codes))
  order = np.argsort(keys[0]) if len(keys) == 1 else np.lexsort(keys[::-1])
  same = np.ones(max(0, len(codes) - 1), bool)
  for key in keys:
    ordered = key[order]
    same &= ordered[1:] == ordered[:-1]
  if same.any():
    raise DataError(
      f'semantic IDs: {same.sum()} of {len(codes)} items repeat the ID of '
      'another; resolve collisions first'
    )
  return order


def lower_bound(
  column: Integer[np.ndarray, ' slots'],
  low: Integer[np.ndarray, ' n'],
  high: Integer[np.ndarray, ' n'],
  value: Integer[np.ndarray, ' n'],
) -> Integer[np.ndarray, ' n']:
  """Returns the first slot of each range whose code is no less than `value`.

  Codes rise within every range from `low` to `high`.
  """
  low, high = low.copy(), high.copy()
  while (open_ := low < high).any():
    middle = (low + high) // 2
    less = open_ & (column[np.minimum(middle, len(column) - 1)] < value)
    low = np.where(less, middle + 1, low)
    high = np.where(open_ & ~less, middle, high)
  return low


def node_starts(
  offsets: Integer[np.ndarray, ' offsets'],
  columns: Sequence[Integer[np.ndarray, '...']],
  num_items: int,
) -> Bool[np.ndarray, ' items']:
  """Returns which slots begin a prefix.

  `offsets` are the first slots of short prefixes, and `columns` the codes of
  the following levels.
  """
  starts = np.zeros(num_items + 1, bool)
  starts[offsets] = True
  starts = starts[:-1]
  for column in columns:
    used = column[:num_items]
    starts[1:] |= used[1:] != used[:-1]
  return starts


def large_nodes(
  starts: Bool[np.ndarray, ' items'],
  column: Integer[np.ndarray, ' slots'],
  more_than: int,
) -> Nodes:
  """Finds the prefixes with more than `more_than` items.

  `column` has the code that follows the prefix, by slot.
  """
  first = np.flatnonzero(starts)
  sizes = np.diff(np.append(first, len(starts)))
  large = sizes > more_than
  inside = np.repeat(large, sizes)
  used = column[: len(starts)]
  changes = starts.copy()
  changes[1:] |= used[1:] != used[:-1]
  children = np.flatnonzero(changes & inside)
  begin = np.searchsorted(children, first[large])
  return Nodes(first[large], np.append(begin, len(children)), used[children])


def largest_node(starts: Bool[np.ndarray, ' items']) -> int:
  """Returns the most items that one prefix has."""
  first = np.flatnonzero(starts)
  return int(np.diff(np.append(first, len(starts))).max(initial=0))
