"""Builds and changes the arrays of a catalog, on the host."""

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
  """Builds the layout and the arrays of items with distinct Semantic IDs.

  Raises:
    DataError: There are no items, an ID or a row is repeated or out of range,
      or there are more items than `capacity`.
  """
  level_sizes = tuple(map(int, level_sizes))
  sorted_ids.check_codes(codes, level_sizes)
  if not len(codes):
    raise DataError('the catalog is empty: give at least one item')
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
  """Finds the large prefixes, and writes their child codes into the columns.

  Raises:
    DataError: The layout has too little capacity for the large prefixes.
  """
  num_items = int(arrays.offsets[-1])
  levels = []
  for level, capacity in enumerate(layout.num_large, layout.num_bitmaps):
    max_nodes, max_children = capacity
    if capacity == (0, 0):
      levels.append(LargeNodes(np.zeros(0, np.int32), np.zeros(1, np.int32)))
      continue
    prefix_columns = arrays.columns[: level - layout.offsets_depth]
    starts = sorted_ids.node_starts(arrays.offsets, prefix_columns, num_items)
    column = arrays.columns[level - layout.offsets_depth]
    nodes = sorted_ids.large_nodes(starts, column, layout.scan(level))
    widest = int(np.diff(nodes.start).max(initial=0))
    if (
      len(nodes.first) > max_nodes
      or len(nodes.codes) > max_children
      or widest > layout.width(level)
    ):
      raise _full('more prefixes with many items')
    column[layout.slots : layout.slots + len(nodes.codes)] = nodes.codes
    start = nodes.start.astype(np.int32) + layout.slots
    levels.append(
      LargeNodes(
        _padded(nodes.first.astype(np.int32), max_nodes, NEVER),
        _padded(start, max_nodes + 1, int(start[-1])),
      )
    )
  return tuple(levels)


def ranges(
  layout: Layout, arrays: Arrays, codes: Integer[np.ndarray, 'n l']
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns the slot ranges `(first, end)` of the prefixes of 1, 2, ... codes.

  If no item has a prefix, its range is empty and lies where its items would be
  inserted.
  """
  slot_ranges = []
  number = np.zeros(len(codes), np.int64)
  first, end = number, number + arrays.offsets[-1]
  for level in range(codes.shape[1]):
    code = codes[:, level].astype(np.int64)
    if level < layout.offsets_depth:
      number = number * layout.level_sizes[level] + code
      stride = math.prod(layout.level_sizes[level + 1 : layout.offsets_depth])
      first = arrays.offsets[number * stride].astype(np.int64)
      end = arrays.offsets[(number + 1) * stride].astype(np.int64)
    else:
      column = arrays.columns[level - layout.offsets_depth]
      first, end = (
        sorted_ids.lower_bound(column, first, end, code),
        sorted_ids.lower_bound(column, first, end, code + 1),
      )
    slot_ranges.append((first, end))
  return slot_ranges


def insert(
  layout: Layout, arrays: Arrays, codes: Integer[np.ndarray, 'n l']
) -> Arrays:
  """Returns the arrays with additional items, in the next free rows.

  Raises:
    DataError: An ID exists already, is repeated or out of range, or the items
      exceed the capacity.
  """
  sorted_ids.check_codes(codes, layout.level_sizes)
  order = sorted_ids.sort_order(codes, layout.level_sizes)
  codes = codes[order]
  num_items = int(arrays.offsets[-1])
  if num_items + len(codes) > layout.capacity:
    raise _full(f'{num_items + len(codes)} items, only for {layout.capacity}')
  slot_ranges = ranges(layout, arrays, codes)
  slots, end = slot_ranges[-1]
  duplicates = np.flatnonzero(end > slots)
  if len(duplicates):
    raise DataError(
      f'semantic IDs: {len(duplicates)} of {len(codes)} new items have the ID '
      f'of another item, for example {tuple(codes[duplicates[0]].tolist())}; '
      'resolve collisions first'
    )
  _check_spans(layout, codes, slot_ranges)
  bitmaps = tuple(x.copy() for x in arrays.bitmaps)
  for level, bitmap in enumerate(bitmaps):
    _set_bits(bitmap, *_split([*codes.T[: level + 1]], layout.level_sizes))
  rows = arrays.num_rows + order
  arrays = arrays._replace(
    bitmaps=bitmaps,
    offsets=_shifted(layout, arrays.offsets, codes, 1),
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
  """Returns the arrays without the items in the rows `removed`.

  Raises:
    DataError: A row does not exist or is repeated, or no item would be left.
  """
  num_items = int(arrays.offsets[-1])
  is_removed = np.zeros(int(arrays.num_rows), bool)
  in_range = (removed >= 0) & (removed < len(is_removed))
  is_removed[removed[in_range]] = True
  slots = np.flatnonzero(is_removed.take(arrays.rows[:num_items], mode='clip'))
  if len(slots) < len(removed):
    exists = np.isin(removed, arrays.rows[slots]) & in_range
    rows, counts = np.unique(removed[exists], return_counts=True)
    row = removed[~exists][0] if not exists.all() else rows[counts > 1][0]
    raise DataError(
      f'the catalog has no item in row {row}, or the row is repeated: give '
      'rows that exist, each once'
    )
  if len(slots) == num_items:
    raise DataError('no item would be left: keep at least one')
  codes = codes_at(layout, arrays, slots)
  arrays = arrays._replace(
    offsets=_shifted(layout, arrays.offsets, codes, -1),
    columns=tuple(_without(x, slots) for x in arrays.columns),
    rows=_without(arrays.rows, slots),
    bitmaps=tuple(x.copy() for x in arrays.bitmaps),
  )
  slot_ranges = ranges(layout, arrays, codes[:, : layout.num_bitmaps])
  for level, bitmap in enumerate(arrays.bitmaps):
    first, end = slot_ranges[level]
    empty_prefixes = codes[first == end, : level + 1]
    _clear_bits(bitmap, *_split([*empty_prefixes.T], layout.level_sizes))
  return arrays._replace(large=list_large(layout, arrays))


def codes_at(
  layout: Layout, arrays: Arrays, slots: Integer[np.ndarray, ' n']
) -> Integer[np.ndarray, 'n l']:
  """Returns the IDs in the given slots."""
  depth = layout.offsets_depth
  codes = np.zeros((len(slots), layout.num_levels), np.int32)
  if depth:
    num_offsets = math.prod(layout.level_sizes[:depth]) + 1
    offsets = arrays.offsets[:num_offsets]
    number = np.searchsorted(offsets, slots, side='right') - 1
    codes[:, :depth] = np.stack(
      np.unravel_index(number, layout.level_sizes[:depth]), 1
    )
  for level, column in enumerate(arrays.columns, depth):
    codes[:, level] = column[slots]
  return codes


def _check_spans(
  layout: Layout,
  codes: Integer[np.ndarray, 'n l'],
  slot_ranges: Sequence[tuple[np.ndarray, np.ndarray]],
) -> None:
  """Raises DataError if a prefix would get more items than the layout allows.

  Args:
    layout: The layout.
    codes: The IDs of the new items, sorted.
    slot_ranges: The slots of the prefixes of these IDs before the insertion.
  """
  is_new_prefix = np.zeros(len(codes), bool)
  for depth, (first, end) in enumerate(slot_ranges[:-1], 1):
    is_new_prefix[1:] |= codes[1:, depth - 1] != codes[:-1, depth - 1]
    if depth < layout.offsets_depth:
      continue
    prefix = np.cumsum(is_new_prefix)
    largest = int((end - first + np.bincount(prefix)[prefix]).max(initial=0))
    if largest > layout.span(depth):
      raise _full(
        f'{largest} items with the same first {depth} of {layout.num_levels} '
        f'codes, only for {layout.span(depth)}'
      )


def _without(array: np.ndarray, slots: np.ndarray) -> np.ndarray:
  """Deletes slots, and repeats the last, unused slots to keep the length."""
  return np.append(np.delete(array, slots), array[len(array) - len(slots) :])


def _full(request: str) -> DataError:
  return DataError(
    f'the catalog has no room for {request}: `grown` returns a larger one, '
    'which needs a recompilation'
  )


def _padded(array: np.ndarray, length: int, value: int) -> np.ndarray:
  return np.pad(array, (0, length - len(array)), constant_values=value)


def _column_length(layout: Layout, level: int) -> int:
  num_children = 0
  if layout.num_bitmaps <= level < layout.num_levels - 1:
    _, num_children = layout.num_large[level - layout.num_bitmaps]
  if not num_children:
    return layout.slots
  return layout.slots + round_up(num_children + max(layout.widths))


def _numbers(
  columns: Sequence[np.ndarray], level_sizes: tuple[int, ...], num_items: int
) -> Integer[np.ndarray, ' items']:
  """Returns each prefix as one mixed-radix number."""
  number = np.zeros(num_items, np.int64)
  for column, size in zip(columns, level_sizes, strict=False):
    number = number * size + column
  return number


def _split(
  columns: Sequence[np.ndarray], level_sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns all codes but the last as one number, and the last code."""
  *parents, code = columns
  return _numbers(parents, level_sizes, len(code)), code.astype(np.int64)


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


def _shifted(
  layout: Layout, offsets: np.ndarray, codes: np.ndarray, change: int
) -> np.ndarray:
  """Returns the offsets after items are added (change 1) or removed (-1)."""
  sizes = layout.level_sizes[: layout.offsets_depth]
  number = _numbers([*codes.T[: len(sizes)]], sizes, len(codes))
  counts = np.bincount(number + 1, minlength=len(offsets))
  return offsets + change * np.cumsum(counts, dtype=np.int32)
