"""The layout of packed rows by first-fit decreasing, see `packing`."""

from typing import NamedTuple

from jaxtyping import Int, Int64
import numpy as np


class Layout(NamedTuple):
  """The slots of all rows; a slot is a place for a history.

  Rows with equal slots have the same pattern. Rows of the same pattern are
  consecutive. In each of them, a slot has a history of the same length. The
  histories of one length are numbered in the order of their rows and slots.

  Attributes:
    num_rows: The number of rows of each pattern.
    length: The length of each slot; 0 for no slot.
    first: The number of the history of each slot in the first row.
    step: The difference of this number between consecutive rows.
    slot: The slot of each item.
    offset: The number of earlier items in the slot; -1 for padding.
  """

  num_rows: Int64[np.ndarray, ' patterns']
  length: Int64[np.ndarray, 'patterns t']
  first: Int64[np.ndarray, 'patterns t']
  step: Int64[np.ndarray, 'patterns t']
  slot: Int64[np.ndarray, 'patterns t']
  offset: Int64[np.ndarray, 'patterns t']


def make_layout(counts: Int[np.ndarray, ' lengths']) -> Layout:
  """Returns the layout for `counts[n]` histories of n items."""
  width = len(counts) - 1
  rows = _first_fit_decreasing(counts, width)
  patterns, num_rows = [x for x, _ in rows], [x for _, x in rows]
  length, first, step, slot, offset = np.zeros(
    (5, len(patterns), width), np.int64
  )
  offset -= 1
  num_used = np.zeros(width + 1, np.int64)
  for i, lengths in enumerate(patterns):
    num = sum(lengths)
    slots = np.arange(len(lengths))
    starts = np.cumsum(lengths) - lengths
    slot[i, :num] = np.repeat(slots, lengths)
    offset[i, :num] = np.arange(num) - np.repeat(starts, lengths)
    length[i, slots] = lengths
    per_row = np.bincount(lengths, minlength=width + 1)
    # Slots of equal length are adjacent.
    before = np.searchsorted(-np.asarray(lengths), -np.asarray(lengths))
    first[i, slots] = num_used[lengths] + slots - before
    step[i, slots] = per_row[lengths]
    num_used += per_row * num_rows[i]
  return Layout(
    np.asarray(num_rows, np.int64), length, first, step, slot, offset
  )


def _first_fit_decreasing(
  counts: Int[np.ndarray, ' lengths'], width: int
) -> list[tuple[list[int], int]]:
  """Returns the lengths in each pattern, and the number of its rows.

  The first row takes the longest history, then the longest that still fits, and
  so on. While enough histories remain, the next row has the same pattern.
  """
  remaining = counts.tolist()
  longest = width
  rows = []
  while True:
    while longest and not remaining[longest]:
      longest -= 1
    if not longest:
      return rows
    space, repeat, lengths = width, remaining[longest], []
    for length in range(longest, 0, -1):
      num = min(remaining[length], space // length)
      if num:
        lengths += [length] * num
        space -= num * length
        repeat = min(repeat, remaining[length] // num)
    for length in lengths:
      remaining[length] -= repeat
    rows.append((lengths, repeat))
