"""The arrays of a catalogue, made and changed on the host."""

from collections.abc import Sequence
import math

from jaxtyping import Integer
import numpy as np

from tiger_jax.catalog import sorted_ids
from tiger_jax.catalog.layout import (
  NEVER,
  Arrays,
  LargeNodes,
  Layout,
  choose_layout,
  round_up,
)
from tiger_jax.errors import DataError


def build(
  codes: Integer[np.ndarray, 'items l'],
  level_sizes: Sequence[int],
  rows: Integer[np.ndarray, ' items'],
  capacity: int,
) -> tuple[Layout, Arrays]:
  """Builds the layout and the arrays of items whose Semantic IDs all differ.

  Raises:
    DataError: There is no item, an ID or a row is repeated or out of range, or
      the items do not fit.
  """
  level_sizes = tuple(map(int, level_sizes))
  sorted_ids.check_codes(codes, level_sizes)
  if not len(codes):
    raise DataError('the catalogue is empty: name at least one item')
  sorted_ids.check_rows(rows, len(codes))
  if len(codes) > capacity:
    raise DataError(
      f'{len(codes)} items do not fit a capacity of {capacity}: raise it'
    )
  order = sorted_ids.sort_order(codes, level_sizes)
  columns = [
    codes[order, level].astype(sorted_ids.code_dtype(size))
    for level, size in enumerate(level_sizes)
  ]
  layout = choose_layout(columns, level_sizes, capacity)
  depth = layout.offsets_depth
  number = _numbers(columns[:depth], level_sizes, len(codes))
  counts = np.bincount(number, minlength=math.prod(level_sizes[:depth]))
  arrays = Arrays(
    bitmaps=tuple(
      _bitmap(columns[: level + 1], level_sizes)
      for level in range(layout.num_bitmaps)
    ),
    offsets=_padded(
      np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
      round_up(len(counts) + 1),
      len(codes),
    ),
    columns=tuple(
      _padded(c, _column_length(layout, level), 0)
      for level, c in enumerate(columns)
      if level >= depth
    ),
    large=(),
    rows=_padded(rows[order].astype(np.int32), layout.slots, -1),
    num_rows=np.int32(rows.max() + 1),
  )
  return layout, arrays._replace(large=list_large(layout, arrays))


def list_large(layout: Layout, arrays: Arrays) -> tuple[LargeNodes, ...]:
  """Lists the large prefixes anew, and writes their codes into the columns.

  Raises:
    DataError: They do not fit.
  """
  num_items = int(arrays.offsets[-1])
  found = []
  for level, room in enumerate(layout.num_large, layout.num_bitmaps):
    if room == (0, 0):
      found.append(LargeNodes(np.zeros(0, np.int32), np.zeros(1, np.int32)))
      continue
    before = arrays.columns[: level - layout.offsets_depth]
    starts = sorted_ids.node_starts(arrays.offsets, before, num_items)
    column = arrays.columns[level - layout.offsets_depth]
    nodes = sorted_ids.large_nodes(starts, column, layout.scan(level))
    widest = int(np.diff(nodes.start).max(initial=0))
    if (
      len(nodes.first) > room[0]
      or len(nodes.codes) > room[1]
      or widest > layout.width(level)
    ):
      raise _full('so many popular prefixes')
    column[layout.slots : layout.slots + len(nodes.codes)] = nodes.codes
    start = nodes.start.astype(np.int32) + layout.slots
    found.append(
      LargeNodes(
        _padded(nodes.first.astype(np.int32), room[0], NEVER),
        _padded(start, room[0] + 1, int(start[-1])),
      )
    )
  return tuple(found)


def ranges(
  layout: Layout, arrays: Arrays, codes: Integer[np.ndarray, 'n l']
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the first and end slot of the prefixes of 1, 2, ... codes.

  The range of a prefix that no item has is empty, and lies where its items
  would be.
  """
  found = []
  number = np.zeros(len(codes), np.int64)
  first, end = number, number + arrays.offsets[-1]
  for level in range(codes.shape[1]):
    code = codes[:, level].astype(np.int64)
    if level < layout.offsets_depth:
      number = number * layout.level_sizes[level] + code
      longer = math.prod(layout.level_sizes[level + 1 : layout.offsets_depth])
      first = arrays.offsets[number * longer].astype(np.int64)
      end = arrays.offsets[(number + 1) * longer].astype(np.int64)
    else:
      column = arrays.columns[level - layout.offsets_depth]
      first, end = (
        sorted_ids.lower_bound(column, first, end, code),
        sorted_ids.lower_bound(column, first, end, code + 1),
      )
    found.append((first, end))
  return found


def insert(
  layout: Layout, arrays: Arrays, codes: Integer[np.ndarray, 'n l']
) -> Arrays:
  """Returns the arrays with further items, in the rows that come next.

  Raises:
    DataError: An ID is there already, repeated or out of range, or the items
      do not fit.
  """
  sorted_ids.check_codes(codes, layout.level_sizes)
  order = sorted_ids.sort_order(codes, layout.level_sizes)
  codes = codes[order]
  num_items = int(arrays.offsets[-1])
  if num_items + len(codes) > layout.capacity:
    raise _full(f'{num_items + len(codes)} items, only for {layout.capacity}')
  before = ranges(layout, arrays, codes)
  slots, end = before[-1]
  known = np.flatnonzero(end > slots)
  if len(known):
    raise DataError(
      f'semantic IDs: {len(known)} of {len(codes)} new items have the ID of '
      f'another, {tuple(codes[known[0]].tolist())} for one; resolve collisions '
      'first'
    )
  _check_spans(layout, codes, before)
  bitmaps = tuple(x.copy() for x in arrays.bitmaps)
  for level, bitmap in enumerate(bitmaps):
    _set_bits(bitmap, *_split([*codes.T[: level + 1]], layout.level_sizes))
  rows = arrays.num_rows + order
  arrays = arrays._replace(
    bitmaps=bitmaps,
    offsets=_moved(layout, arrays.offsets, codes, 1),
    columns=tuple(
      np.insert(x, slots, codes[:, level])[: len(x)]
      for level, x in enumerate(arrays.columns, layout.offsets_depth)
    ),
    rows=np.insert(arrays.rows, slots, rows)[: len(arrays.rows)],
    num_rows=np.int32(arrays.num_rows + len(codes)),
  )
  return arrays._replace(large=list_large(layout, arrays))


def delete(
  layout: Layout, arrays: Arrays, removed: Integer[np.ndarray, ' n']
) -> Arrays:
  """Returns the arrays without the items of some rows, each named once.

  Raises:
    DataError: A row is not there, or none would be left.
  """
  num_items = int(arrays.offsets[-1])
  named = np.zeros(int(arrays.num_rows), bool)
  in_range = (removed >= 0) & (removed < len(named))
  named[removed[in_range]] = True
  slots = np.flatnonzero(named.take(arrays.rows[:num_items], mode='clip'))
  if len(slots) < len(removed):
    there = np.isin(removed, arrays.rows[slots]) & in_range
    named, times = np.unique(removed[there], return_counts=True)
    row = removed[~there][0] if not there.all() else named[times > 1][0]
    raise DataError(
      f'the catalogue has no item of row {row}, or it is named twice: name '
      'rows that it has, each once'
    )
  if len(slots) == num_items:
    raise DataError('no item would be left: keep at least one')
  codes = codes_at(layout, arrays, slots)
  arrays = arrays._replace(
    offsets=_moved(layout, arrays.offsets, codes, -1),
    columns=tuple(_without(x, slots) for x in arrays.columns),
    rows=_without(arrays.rows, slots),
    bitmaps=tuple(x.copy() for x in arrays.bitmaps),
  )
  left = ranges(layout, arrays, codes[:, : layout.num_bitmaps])
  for level, bitmap in enumerate(arrays.bitmaps):
    first, end = left[level]
    gone = codes[first == end, : level + 1]
    _clear_bits(bitmap, *_split([*gone.T], layout.level_sizes))
  return arrays._replace(large=list_large(layout, arrays))


def codes_at(
  layout: Layout, arrays: Arrays, slots: Integer[np.ndarray, ' n']
) -> Integer[np.ndarray, 'n l']:
  """Returns the IDs in some slots."""
  depth = layout.offsets_depth
  codes = np.zeros((len(slots), layout.num_levels), np.int32)
  if depth:
    used = math.prod(layout.level_sizes[:depth]) + 1
    number = np.searchsorted(arrays.offsets[:used], slots, side='right') - 1
    codes[:, :depth] = np.stack(
      np.unravel_index(number, layout.level_sizes[:depth]), 1
    )
  for level, column in enumerate(arrays.columns, depth):
    codes[:, level] = column[slots]
  return codes


def _check_spans(
  layout: Layout,
  codes: Integer[np.ndarray, 'n l'],
  before: Sequence[tuple[np.ndarray, np.ndarray]],
) -> None:
  """Raises if new items, sorted, are too many under one of their prefixes.

  `before` has the ranges of these prefixes without the new items.
  """
  new = np.zeros(len(codes), bool)
  for depth, (first, end) in enumerate(before[:-1], 1):
    new[1:] |= codes[1:, depth - 1] != codes[:-1, depth - 1]
    if depth < layout.offsets_depth:
      continue
    prefix = np.cumsum(new)
    most = int((end - first + np.bincount(prefix)[prefix]).max(initial=0))
    if most > layout.span(depth):
      raise _full(
        f'{most} items with the same first {depth} of {layout.num_levels} '
        f'codes, only for {layout.span(depth)}'
      )


def _without(array: np.ndarray, slots: np.ndarray) -> np.ndarray:
  """Returns an array as long; its end, where nothing is in use, is repeated."""
  return np.append(np.delete(array, slots), array[len(array) - len(slots) :])


def _full(what: str) -> DataError:
  return DataError(
    f'the catalogue has no room for {what}: `grown` makes one that has, and '
    'its programs compile anew'
  )


def _padded(array: np.ndarray, length: int, value: int) -> np.ndarray:
  return np.pad(array, (0, length - len(array)), constant_values=value)


def _column_length(layout: Layout, level: int) -> int:
  lists = 0
  if layout.num_bitmaps <= level < layout.num_levels - 1:
    lists = layout.num_large[level - layout.num_bitmaps][1]
  return layout.slots + (round_up(lists + max(layout.widths)) if lists else 0)


def _numbers(
  columns: Sequence[np.ndarray], level_sizes: tuple[int, ...], num_items: int
) -> Integer[np.ndarray, ' items']:
  """Returns prefixes as numbers."""
  number = np.zeros(num_items, np.int64)
  for column, size in zip(columns, level_sizes, strict=False):
    number = number * size + column
  return number


def _split(
  columns: Sequence[np.ndarray], level_sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns prefixes but for their last codes, as numbers, and those codes."""
  *before, code = columns
  return _numbers(before, level_sizes, len(code)), code.astype(np.int64)


def _bitmap(
  columns: Sequence[np.ndarray], level_sizes: tuple[int, ...]
) -> np.ndarray:
  level = len(columns) - 1
  shape = math.prod(level_sizes[:level]), math.ceil(level_sizes[level] / 32)
  bitmap = np.zeros(shape, np.uint32)
  number, code = _split(columns, level_sizes)
  edges = number * level_sizes[level] + code
  new = np.append(True, edges[1:] != edges[:-1])
  _set_bits(bitmap, number[new], code[new])
  return bitmap


def _set_bits(bitmap: np.ndarray, row: np.ndarray, code: np.ndarray) -> None:
  bits = np.uint32(1) << (code % 32).astype(np.uint32)
  np.bitwise_or.at(bitmap, (row, code // 32), bits)


def _clear_bits(bitmap: np.ndarray, row: np.ndarray, code: np.ndarray) -> None:
  bits = np.uint32(1) << (code % 32).astype(np.uint32)
  np.bitwise_and.at(bitmap, (row, code // 32), ~bits)


def _moved(
  layout: Layout, offsets: np.ndarray, codes: np.ndarray, by: int
) -> np.ndarray:
  """Returns the offsets after items came, or went where `by` is -1."""
  sizes = layout.level_sizes[: layout.offsets_depth]
  number = _numbers([*codes.T[: len(sizes)]], sizes, len(codes))
  counts = np.bincount(number + 1, minlength=len(offsets))
  return offsets + by * np.cumsum(counts, dtype=np.int32)
