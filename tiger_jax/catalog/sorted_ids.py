"""Checks and sorts the Semantic IDs of a catalog, on the host."""

from collections.abc import Sequence
import math
from typing import NamedTuple

from jaxtyping import Bool, Integer
import numpy as np

from tiger_jax.errors import DataError


class Nodes(NamedTuple):
  """Prefixes with many items, and the distinct codes that follow them.

  Attributes:
    first: The first slot of each prefix, ascending.
    start: The start of each prefix in `codes`; entry i + 1 is the end of prefix
      i.
    codes: The distinct next codes of all prefixes, concatenated.
  """

  first: Integer[np.ndarray, ' nodes']
  start: Integer[np.ndarray, ' nodes+1']
  codes: Integer[np.ndarray, ' children']


def code_dtype(level_size: int) -> np.dtype:
  """Returns the narrowest type that holds the codes of a level."""
  return np.min_scalar_type(level_size - 1)


def check_codes(
  codes: Integer[np.ndarray, 'items l'], level_sizes: Sequence[int]
) -> None:
  """Raises DataError if codes do not fit the level sizes."""
  if codes.ndim != 2 or codes.shape[1] != len(level_sizes):
    raise DataError(
      f'semantic IDs: an array of shape {codes.shape} does not hold '
      f'{len(level_sizes)} codes per item, which the level sizes '
      f'{tuple(level_sizes)} require; make the IDs again'
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
    outside = np.flatnonzero((column < 0) | (column >= size))
    if len(outside):
      raise DataError(
        f'semantic IDs: item {outside[0]} has code {column[outside[0]]} at '
        f'level {level}, outside the level sizes {tuple(level_sizes)}: make '
        'the IDs again'
      )


def check_rows(rows: Integer[np.ndarray, ' items'], num_items: int) -> None:
  """Raises DataError unless each item has a valid row of its own."""
  if rows.min(initial=0) < 0:
    raise DataError(f'row {rows.min()} is negative: count rows from 0')
  if rows.max(initial=0) >= 2**31 - 1:
    raise DataError(f'row {rows.max()} is too large: the limit is 2**31 - 2')
  is_used = np.zeros(rows.max(initial=0) + 1, bool)
  is_used[rows] = True
  num_distinct = int(is_used.sum())
  if len(rows) != num_items or num_distinct < len(rows):
    raise DataError(
      f'there are {len(rows)} rows, {num_distinct} of them distinct, for '
      f'{num_items} items: give each item its own row'
    )


def sort_order(
  codes: Integer[np.ndarray, 'items l'], level_sizes: Sequence[int]
) -> Integer[np.ndarray, ' items']:
  """Returns the permutation that sorts IDs lexicographically.

  Raises:
    DataError: Two IDs are the same.
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
  is_sorted = len(keys) == 1 and bool((keys[0][1:] > keys[0][:-1]).all())
  if is_sorted:
    return np.arange(len(codes))
  order = np.argsort(keys[0]) if len(keys) == 1 else np.lexsort(keys[::-1])
  repeats = np.ones(max(0, len(codes) - 1), bool)
  for key in keys:
    ordered = key[order]
    repeats &= ordered[1:] == ordered[:-1]
  if repeats.any():
    raise DataError(
      f'semantic IDs: {repeats.sum()} of {len(codes)} items repeat the ID of '
      'another item; resolve collisions first'
    )
  return order


def lower_bound(
  column: Integer[np.ndarray, ' slots'],
  low: Integer[np.ndarray, ' n'],
  high: Integer[np.ndarray, ' n'],
  value: Integer[np.ndarray, ' n'],
) -> Integer[np.ndarray, ' n']:
  """Returns the first slot in each range whose code is at least `value`.

  The codes of `column` ascend within every range from `low` to `high`.
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
  """Marks the slots at which a new prefix starts.

  Args:
    offsets: The first slots of short prefixes.
    columns: The codes of the levels that extend these prefixes.
    num_items: Number of slots in use.
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

  Args:
    starts: Marks the slots at which a prefix starts.
    column: The code that follows the prefix, by slot.
    more_than: The number of items that a large prefix exceeds.
  """
  first = np.flatnonzero(starts)
  sizes = np.diff(np.append(first, len(starts)))
  is_large = sizes > more_than
  in_large = np.repeat(is_large, sizes)
  used = column[: len(starts)]
  changes = starts.copy()
  changes[1:] |= used[1:] != used[:-1]
  children = np.flatnonzero(changes & in_large)
  start = np.searchsorted(children, first[is_large])
  return Nodes(first[is_large], np.append(start, len(children)), used[children])


def largest_node(starts: Bool[np.ndarray, ' items']) -> int:
  """Returns the number of items of the largest prefix."""
  first = np.flatnonzero(starts)
  return int(np.diff(np.append(first, len(starts))).max(initial=0))
