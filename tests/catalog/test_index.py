"""Tests changes of catalogs against a dict and against rebuilt catalogs."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import DataError

lookup = jax.jit(Catalog.lookup)


def _bits(bitmap, size):
  """Returns the bits of all codes, and whether the padding bits are clear."""
  bits = np.unpackbits(bitmap.view(np.uint8), axis=1, bitorder='little')
  return bits[:, :size], not bits[:, size:].any()


def _large(layout, level, codes):
  """Returns the first slot and the following codes of every large prefix."""
  if layout.scan(level) >= layout.span(level):
    return []
  items = {}
  for slot, semantic_id in enumerate(codes.tolist()):
    items.setdefault(tuple(semantic_id[:level]), []).append(slot)
  return [
    (slots[0], sorted({int(codes[slot, level]) for slot in slots}))
    for slots in items.values()
    if len(slots) > layout.scan(level)
  ]


def _fits(layout, codes):
  """Returns whether the arrays of a layout have space for sorted codes."""
  last = layout.num_levels - 1
  for depth in range(max(1, layout.offsets_depth), last + 1):
    counts = np.unique(codes[:, :depth], axis=0, return_counts=True)[1]
    if counts.max() > layout.span(depth):
      return False
  for level in range(layout.num_bitmaps, last):
    large = _large(layout, level, codes)
    num_nodes, num_codes = layout.num_large[level - layout.num_bitmaps]
    num_next = [len(next_codes) for _, next_codes in large]
    if len(large) > num_nodes or sum(num_next) > num_codes:
      return False
    if max(num_next, default=0) > layout.width(level):
      return False
  return len(codes) <= layout.capacity


def _assert_arrays(case, catalog, rows, next_row):
  """Compares every array of a catalog with its expected content.

  Args:
    case: The case that the catalog was built from.
    catalog: The catalog.
    rows: Maps the position of an item's ID in `case.every` to the item's row.
    next_row: The row of the next new item.
  """
  layout, arrays = catalog.layout, jax.device_get(catalog.arrays)
  numbers = np.array(sorted(rows))
  codes, num_items = case.ids(numbers), len(rows)
  for level, bitmap in enumerate(arrays.bitmaps):
    size = case.level_sizes[level]
    bits, is_padding_clear = _bits(bitmap, size)
    stride = len(case.every) // np.prod(case.level_sizes[: level + 1])
    expected = np.isin(np.arange(bits.size), numbers // stride)
    np.testing.assert_array_equal(bits.ravel(), expected)
    assert is_padding_clear
  depth = layout.offsets_depth
  stride = int(np.prod(case.level_sizes[depth:]))
  offsets = np.searchsorted(numbers, np.arange(0, len(case.every) + 1, stride))
  np.testing.assert_array_equal(arrays.offsets[: len(offsets)], offsets)
  assert (arrays.offsets[len(offsets) :] == num_items).all()
  for level, column in enumerate(arrays.columns, depth):
    np.testing.assert_array_equal(column[:num_items], codes[:, level])
    assert column.dtype == np.min_scalar_type(case.level_sizes[level] - 1)
  expected = [rows[number] for number in numbers]
  np.testing.assert_array_equal(arrays.rows[:num_items], expected)
  assert arrays.num_rows == next_row
  for level, nodes in enumerate(arrays.large, layout.num_bitmaps):
    large = _large(layout, level, codes)
    first = [slot for slot, _ in large]
    np.testing.assert_array_equal(nodes.first[: len(large)], first)
    assert (nodes.first[len(large) :] == np.iinfo(np.int32).max).all()
    column = arrays.columns[level - depth]
    for i, (_, next_codes) in enumerate(large):
      start, end = nodes.start[i : i + 2]
      assert column[start:end].tolist() == next_codes
    assert (nodes.start[len(large) :] == nodes.start[len(large)]).all()


def _assert_lookup(case, catalog, rows):
  """Looks up every possible ID."""
  expected = np.full(len(case.every), -1)
  expected[list(rows)] = list(rows.values())
  np.testing.assert_array_equal(lookup(catalog, case.every), expected)


def _start(case):
  """Returns the catalog of a case, and `rows` as in `_assert_arrays`."""
  numbers = case.numbers(case.codes).tolist()
  return _built(case), {number: row for row, number in enumerate(numbers)}


# Cached, so that all examples of a case share compiled functions.
@functools.cache
def _built(case):
  return case.build()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
  changes=st.lists(
    st.tuples(
      st.sampled_from(['add', 'remove']),
      st.booleans(),
      st.sampled_from([0, 1, 20, 90]),
      st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
  )
)
def test_changes_equal_those_of_a_dict(case, changes):
  catalog, rows = _start(case)
  next_row = len(rows)
  for change, adjacent, num_items, seed in changes:
    rng = np.random.default_rng(seed)
    adds = change == 'add'
    exists = np.isin(np.arange(len(case.every)), list(rows))
    numbers = np.flatnonzero(exists != adds)
    if not adds:
      num_items = min(num_items, len(rows) - 1)
    if adjacent:
      # Adjacent IDs fill or empty whole prefixes.
      numbers = np.roll(numbers, -rng.integers(10**6))[:num_items]
      numbers = rng.permutation(numbers)
    else:
      numbers = rng.permutation(numbers)[:num_items]
    old_catalog, old_rows = catalog, dict(rows)
    if adds:
      codes = case.ids(numbers)
      after = np.sort(np.append(list(rows), numbers))
      fits_rows = next_row + len(numbers) <= len(catalog.codes)
      if not fits_rows or not _fits(catalog.layout, case.ids(after)):
        with pytest.raises(DataError, match='no room for'):
          catalog.add(codes)
        _assert_arrays(case, catalog, rows, next_row)
        continue
      catalog = catalog.add(codes)
      rows |= {int(x): next_row + i for i, x in enumerate(numbers)}
      next_row += len(numbers)
    else:
      removed = [rows.pop(int(number)) for number in numbers]
      catalog = catalog.remove(np.array(removed, np.int32))
    _assert_arrays(case, catalog, rows, next_row)
    _assert_arrays(
      case, old_catalog, old_rows, int(old_catalog.arrays.num_rows)
    )
    assert catalog.layout == old_catalog.layout
    assert catalog.size == len(rows)
  _assert_lookup(case, catalog, rows)


def test_changes_equal_a_rebuilt_catalog(case):
  catalog, rows = _start(case)
  _assert_arrays(case, catalog, rows, len(rows))
  # Remove two items, and add them again with new rows.
  removed = case.numbers(case.codes)[[3, 7]]
  changed = catalog.remove(np.array([7, 3])).add(case.codes[[3, 7]])
  rows = rows | {removed[0]: len(rows), removed[1]: len(rows) + 1}
  _assert_arrays(case, changed, rows, len(rows) + 2)
  codes, item_rows = changed.items()
  rebuilt = case.build(codes, rows=item_rows)
  assert changed.layout == rebuilt.layout
  actual, expected = changed.arrays, rebuilt.arrays
  for name in ('bitmaps', 'offsets', 'large', 'num_rows'):
    jax.tree.map(
      np.testing.assert_array_equal,
      getattr(actual, name),
      getattr(expected, name),
    )
  for x, y in zip(
    (*actual.columns, actual.rows),
    (*expected.columns, expected.rows),
    strict=True,
  ):
    np.testing.assert_array_equal(x[: len(rows)], y[: len(rows)])


def test_changes_need_no_recompilation(case):
  catalog, rows = _start(case)
  _assert_lookup(case, catalog, rows)
  num_compiled = lookup._cache_size()
  for item in range(3):
    codes = case.codes[item : item + 1]
    catalog = catalog.remove(np.array([item]))
    found_rows = np.asarray(lookup(catalog, case.every))
    assert (found_rows >= 0).sum() == len(rows) - 1
    catalog = catalog.add(codes)
    found_rows = np.asarray(lookup(catalog, case.every))
    assert found_rows[case.numbers(codes)] == len(rows) + item
  assert lookup._cache_size() == num_compiled


@pytest.mark.parametrize(
  ('codes', 'message'),
  [
    ([[0, 1], [1, 2], [0, 1]], '1 of 3 items repeat'),
    ([[1, 1], [1, 1], [1, 1]], '2 of 3 items repeat'),
    (
      [[0, 0], [2, 0]],
      r'item 1 has code 2 at level 0, outside the level sizes \(2, 3\)',
    ),
    (
      [[0, 3], [0, 0]],
      r'item 0 has code 3 at level 1, outside the level sizes \(2, 3\)',
    ),
    ([[0, 0], [0, -1]], 'item 1 has code -1 at level 1, outside'),
    ([[0], [1]], r'shape \(2, 1\) does not hold 2 codes per item'),
    ([[0, 1, 0]], r'shape \(1, 3\) does not hold 2 codes per item'),
  ],
)
def test_refuses_invalid_ids(codes, message):
  codes = np.array(codes, np.int32)
  with pytest.raises(DataError, match=message):
    Catalog.from_codes(codes, (2, 3))
  catalog = Catalog.from_codes(np.array([[1, 0]], np.int32), (2, 3))
  with pytest.raises(DataError, match=message):
    catalog.add(codes)
  assert catalog.add(np.array([[1, 2]], np.int32)).size == 2


def test_refuses_an_empty_catalog():
  with pytest.raises(DataError, match='the catalog is empty'):
    Catalog.from_codes(np.zeros((0, 2), np.int32), (2, 3))


def test_add_refuses_existing_ids(case):
  catalog, rows = _start(case)
  unused = np.setdiff1d(np.arange(len(case.every)), list(rows))[:2]
  codes = np.concatenate([case.ids(unused), case.codes[5:7]])
  first = tuple(min(case.codes[5:7].tolist()))
  with pytest.raises(DataError) as error:
    catalog.add(codes)
  message = f'2 of 4 new items have the ID of another item, for example {first}'
  assert message in str(error.value)
  _assert_arrays(case, catalog, rows, len(rows))
  assert catalog.add(codes[:2]).size == len(rows) + 2


@pytest.mark.parametrize(
  ('removed', 'row'),
  [
    ([3], 3), ([0, -1], -1), ([-4], -4), ([5, 1], 5), ([10**9], 10**9),
    ([0, 2, 2], 2), ([1, 0, 0, 1], 0), ([3, 0, 0], 3),
  ],
)  # fmt: skip
def test_remove_refuses_missing_and_repeated_rows(removed, row):
  codes = np.stack(np.unravel_index(np.arange(5), (2, 3)), 1)
  catalog = Catalog.from_codes(codes, (2, 3)).remove(np.array([3]))
  with pytest.raises(DataError, match=f'no item in row {row}, or the row'):
    catalog.remove(np.array(removed))
  assert catalog.remove(np.array([0])).size == 3


def test_remove_refuses_all_items():
  two_items = Catalog.from_codes(np.array([[0, 1], [1, 1]]), (2, 3))
  for catalog in (two_items, two_items.remove(np.array([0]))):
    with pytest.raises(DataError, match='no item would be left'):
      catalog.remove(np.asarray(catalog.items()[1]))


def _under(first, *counts):
  """Returns IDs that begin with `first`; `counts[i]` have the second code i."""
  return [
    (first, second, third)
    for second, count in enumerate(counts)
    for third in range(count)
  ]


# `ids` determine the layout. The items `few` fit into its spare capacity, and
# the items `many` do not. With 32 second codes, a prefix of more than 8 items
# is large. The smallest capacity for the items of a prefix is 8.
@pytest.mark.parametrize(
  ('ids', 'few', 'many', 'message'),
  [
    # If the largest prefix of a length has 1 item, all prefixes of this length
    # get space for 8 items. If it has 6 items, they get space for 16.
    ([(0, 0, 0)], _under(1, 8), _under(1, 9), '9 items with the same first'),
    (
      _under(0, 3, 3),
      _under(1, 8, 8),
      _under(1, 8, 8, 1),
      '17 items with the same first 1',
    ),
    (
      _under(0, 3, 3),
      _under(1, 8),
      _under(1, 9),
      '9 items with the same first 2',
    ),
    # A layout with one large prefix has space for 8 large prefixes.
    (
      _under(0, 9, 1, 1, 1, 1, 1),
      [x for first in range(1, 8) for x in _under(first, 9)],
      [x for first in range(1, 9) for x in _under(first, 9)],
      'more prefixes with many items',
    ),
    # If the lists of large prefixes have 6 codes in all, there is room for 16.
    (
      _under(0, 9, 1, 1, 1, 1, 1),
      _under(1, 4, 1, 1, 1, 1, 1) + _under(2, 6, 1, 1, 1),
      _under(1, 4, 1, 1, 1, 1, 1) + _under(2, 5, 1, 1, 1, 1),
      'more prefixes with many items',
    ),
    # If the longest list has 6 codes, each list gets space for 16 codes.
    (
      _under(0, 9, 1, 1, 1, 1, 1)
      + [x for first in range(1, 7) for x in _under(first, 9)],
      _under(7, *[1] * 16),
      _under(7, *[1] * 17),
      'more prefixes with many items',
    ),
  ],
)
def test_refuses_more_items_per_prefix_than_the_layout_allows(
  ids, few, many, message
):
  # The first level has so many codes that no level has a bitmap. With 4,096
  # items, the spare capacity is a quarter of the items or less.
  ids = ids + [(first, 0, 0) for first in range(4096, 8192)]
  catalog = Catalog.from_codes(np.array(ids), (8192, 32, 32))
  with pytest.raises(DataError, match=f'no room for {message}.*`grown`'):
    catalog.add(np.array(many))
  added = catalog.add(np.array(few))
  rows = lookup(added, np.array(ids + few, np.int32))
  np.testing.assert_array_equal(rows, np.arange(len(ids) + len(few)))
  # As the message says, `grown` has space for these items.
  grown = catalog.grown(np.array(many))
  rows = lookup(grown, np.array(ids + many, np.int32))
  np.testing.assert_array_equal(rows, np.arange(len(ids) + len(many)))


def test_a_small_catalog_can_grow_to_its_capacity():
  rng = np.random.default_rng(0)
  ids = rng.permutation(32**3)[:1200]
  codes = np.stack(np.unravel_index(ids, (32, 32, 32)), 1)
  catalog = Catalog.from_codes(codes[:200], (32, 32, 32))
  assert catalog.capacity == 1224
  added = catalog.add(codes[200:])  # Fails if a prefix has no space.
  np.testing.assert_array_equal(
    lookup(added, codes.astype(np.int32)), np.arange(1200)
  )
