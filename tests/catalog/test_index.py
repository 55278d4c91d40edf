"""Catalogues that change, against a dictionary and ones built anew."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from tiger_jax.catalog import layout
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import DataError

lookup = jax.jit(Catalog.lookup)


def _bits(bitmap, size):
  """Every bit of a bitmap, and whether those past the last code are clear."""
  bits = np.unpackbits(bitmap.view(np.uint8), axis=1, bitorder='little')
  return bits[:, :size], not bits[:, size:].any()


def _large(layout, level, codes):
  """First slot, and codes that follow, of every prefix with many items."""
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


def _fit(layout, codes):
  """Whether sorted codes fit into the arrays of a layout."""
  last = layout.num_levels - 1
  for depth in range(max(1, layout.offsets_depth), last + 1):
    counts = np.unique(codes[:, :depth], axis=0, return_counts=True)[1]
    if counts.max() > layout.span(depth):
      return False
  for level in range(layout.num_bitmaps, last):
    large = _large(layout, level, codes)
    num_nodes, num_codes = layout.num_large[level - layout.num_bitmaps]
    follow = [len(then) for _, then in large]
    if len(large) > num_nodes or sum(follow) > num_codes:
      return False
    if max(follow, default=0) > layout.width(level):
      return False
  return len(codes) <= layout.capacity


def _assert_holds(case, catalog, rows, next_row):
  """Compares every array with what it should hold.

  Args:
    case: Whose IDs there are.
    catalog: What to look at.
    rows: The row of every item, by its number among all IDs.
    next_row: What the next item gets.
  """
  layout, arrays = catalog.layout, jax.device_get(catalog.arrays)
  numbers = np.array(sorted(rows))
  codes, num_items = case.ids(numbers), len(rows)
  for level, bitmap in enumerate(arrays.bitmaps):
    size = case.level_sizes[level]
    bits, clear = _bits(bitmap, size)
    later = len(case.every) // np.prod(case.level_sizes[: level + 1])
    expected = np.isin(np.arange(bits.size), numbers // later)
    np.testing.assert_array_equal(bits.ravel(), expected)
    assert clear
  depth = layout.offsets_depth
  later = int(np.prod(case.level_sizes[depth:]))
  offsets = np.searchsorted(numbers, np.arange(0, len(case.every) + 1, later))
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
    for place, (_, follow) in enumerate(large):
      begin, end = nodes.start[place : place + 2]
      assert column[begin:end].tolist() == follow
    assert (nodes.start[len(large) :] == nodes.start[len(large)]).all()


def _assert_finds(case, catalog, rows):
  """Looks up every ID there can be."""
  expected = np.full(len(case.every), -1)
  expected[list(rows)] = list(rows.values())
  np.testing.assert_array_equal(lookup(catalog, case.every), expected)


def _start(case):
  """The catalogue of a case, and the row of every item by its number."""
  numbers = case.numbers(case.codes).tolist()
  return _built(case), {number: row for row, number in enumerate(numbers)}


# Once for each case, so that examples share compiled programs.
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
def test_changes_are_those_of_a_dictionary(case, changes):
  catalog, rows = _start(case)
  next_row = len(rows)
  for change, together, amount, seed in changes:
    rng = np.random.default_rng(seed)
    adds = change == 'add'
    there = np.isin(np.arange(len(case.every)), list(rows))
    numbers = np.flatnonzero(there != adds)
    if not adds:
      amount = min(amount, len(rows) - 1)
    if together:
      # Neighbours, so that whole prefixes fill up, or go.
      numbers = np.roll(numbers, -rng.integers(10**6))[:amount]
      numbers = rng.permutation(numbers)
    else:
      numbers = rng.permutation(numbers)[:amount]
    before, held = catalog, dict(rows)
    if adds:
      codes = case.ids(numbers)
      after = np.sort(np.append(list(rows), numbers))
      fits_rows = next_row + len(numbers) <= len(catalog.codes)
      if not fits_rows or not _fit(catalog.layout, case.ids(after)):
        with pytest.raises(DataError, match='no room for'):
          catalog.add(codes)
        _assert_holds(case, catalog, rows, next_row)
        continue
      catalog = catalog.add(codes)
      rows |= {int(x): next_row + i for i, x in enumerate(numbers)}
      next_row += len(numbers)
    else:
      gone = [rows.pop(int(number)) for number in numbers]
      catalog = catalog.remove(np.array(gone, np.int32))
    _assert_holds(case, catalog, rows, next_row)
    _assert_holds(case, before, held, int(before.arrays.num_rows))
    assert catalog.layout == before.layout
    assert catalog.size == len(rows)
  _assert_finds(case, catalog, rows)


def test_a_catalogue_built_anew_holds_the_same(case):
  catalog, rows = _start(case)
  _assert_holds(case, catalog, rows, len(rows))
  # Back and forth, and two of them under new rows.
  gone = case.numbers(case.codes)[[3, 7]]
  changed = catalog.remove(np.array([7, 3])).add(case.codes[[3, 7]])
  rows = rows | {gone[0]: len(rows), gone[1]: len(rows) + 1}
  _assert_holds(case, changed, rows, len(rows) + 2)
  codes, of_items = changed.items()
  anew = case.build(codes, rows=of_items)
  assert changed.layout == anew.layout
  found, expected = changed.arrays, anew.arrays
  for name in ('bitmaps', 'offsets', 'large', 'num_rows'):
    jax.tree.map(
      np.testing.assert_array_equal,
      getattr(found, name),
      getattr(expected, name),
    )
  for got, right in zip(
    (*found.columns, found.rows),
    (*expected.columns, expected.rows),
    strict=True,
  ):
    np.testing.assert_array_equal(got[: len(rows)], right[: len(rows)])


def test_changes_compile_nothing(case):
  catalog, rows = _start(case)
  _assert_finds(case, catalog, rows)
  compiled = lookup._cache_size()
  for item in range(3):
    code = case.codes[item : item + 1]
    catalog = catalog.remove(np.array([item]))
    found = np.asarray(lookup(catalog, case.every))
    assert (found >= 0).sum() == len(rows) - 1
    catalog = catalog.add(code)
    found = np.asarray(lookup(catalog, case.every))
    assert found[case.numbers(code)] == len(rows) + item
  assert lookup._cache_size() == compiled


@pytest.mark.parametrize(
  ('codes', 'message'),
  [
    ([[0, 1], [1, 2], [0, 1]], '1 of 3 items repeat'),
    ([[1, 1], [1, 1], [1, 1]], '2 of 3 items repeat'),
    (
      [[0, 0], [2, 0]],
      r'outside the level sizes \(2, 3\): 2 at level 0 of .* 1',
    ),
    (
      [[0, 3], [0, 0]],
      r'outside the level sizes \(2, 3\): 3 at level 1 of .* 0',
    ),
    ([[0, 0], [0, -1]], 'outside the level sizes .*: -1 at level 1 of item 1'),
    ([[0], [1]], r'shape \(2, 1\) does not hold 2 codes per item'),
    ([[0, 1, 0]], r'shape \(1, 3\) does not hold 2 codes per item'),
  ],
)
def test_refuses_what_are_not_ids(codes, message):
  codes = np.array(codes, np.int32)
  with pytest.raises(DataError, match=message):
    Catalog.from_codes(codes, (2, 3))
  before = Catalog.from_codes(np.array([[1, 0]], np.int32), (2, 3))
  with pytest.raises(DataError, match=message):
    before.add(codes)
  assert before.add(np.array([[1, 2]], np.int32)).size == 2


def test_refuses_a_catalogue_of_nothing():
  with pytest.raises(DataError, match='the catalog is empty'):
    Catalog.from_codes(np.zeros((0, 2), np.int32), (2, 3))


def test_refuses_an_id_that_is_there(case):
  catalog, rows = _start(case)
  free = np.setdiff1d(np.arange(len(case.every)), list(rows))[:2]
  codes = np.concatenate([case.ids(free), case.codes[5:7]])
  first = tuple(min(case.codes[5:7].tolist()))
  with pytest.raises(DataError) as raised:
    catalog.add(codes)
  assert f'2 of 4 new items have the ID of another, {first}' in str(
    raised.value
  )
  _assert_holds(case, catalog, rows, len(rows))
  assert catalog.add(codes[:2]).size == len(rows) + 2


@pytest.mark.parametrize(
  ('removed', 'row'),
  [
    ([3], 3), ([0, -1], -1), ([-4], -4), ([5, 1], 5), ([10**9], 10**9),
    ([0, 2, 2], 2), ([1, 0, 0, 1], 0), ([3, 0, 0], 3),
  ],
)  # fmt: skip
def test_refuses_to_remove_what_is_not_there_or_named_twice(removed, row):
  codes = np.stack(np.unravel_index(np.arange(5), (2, 3)), 1)
  catalog = Catalog.from_codes(codes, (2, 3)).remove(np.array([3]))
  with pytest.raises(DataError, match=f'no item in row {row}, or the row'):
    catalog.remove(np.array(removed))
  assert catalog.remove(np.array([0])).size == 3


def test_refuses_to_remove_every_item():
  catalog = Catalog.from_codes(np.array([[0, 1], [1, 1]]), (2, 3))
  for once in (catalog, catalog.remove(np.array([0]))):
    with pytest.raises(DataError, match='no item would be left'):
      once.remove(np.asarray(once.items()[1]))


def _under(first, *seconds):
  """IDs that begin with `first`, and how many of them have each second code."""
  return [
    (first, second, third)
    for second, number in enumerate(seconds)
    for third in range(number)
  ]


# Of 8 second codes, more than two items are looked up in a list of codes.
@pytest.mark.parametrize(
  ('ids', 'few', 'many', 'message'),
  [
    # There is room for 4 items after one, for 8 after three.
    ([(0, 0, 0)], _under(1, 4), _under(1, 5), '5 items with the same first'),
    (
      _under(0, 1, 2),
      _under(1, 4, 4),
      _under(1, 4, 4, 1),
      '9 items with',
    ),
    (
      _under(0, 1, 1, 1),
      _under(1, 4),
      _under(1, 5),
      '5 items with',
    ),
    # For 4 lists after one.
    (
      _under(0, 1, 1, 1),
      _under(1, 3) + _under(2, 3) + _under(3, 3),
      _under(1, 3) + _under(2, 3) + _under(3, 3) + _under(4, 3),
      'more prefixes with many items',
    ),
    # For 8 codes in lists after three.
    (
      _under(0, 1, 1, 1),
      _under(1, 1, 1, 1) + _under(2, 2, 1),
      _under(1, 1, 1, 1) + _under(2, 1, 1, 1),
      'more prefixes with many items',
    ),
    # For 4 codes in one list after one.
    (
      _under(0, 4) + _under(1, 4) + _under(2, 4),
      _under(3, 1, 1, 1, 1),
      _under(3, 1, 1, 1, 1, 1),
      'more prefixes with many items',
    ),
  ],
)
def test_refuses_more_items_under_a_prefix_than_there_is_room_for(
  monkeypatch, ids, few, many, message
):
  # Only the first level may be a bitmap.
  monkeypatch.setattr(layout, '_BITMAP_BYTES', 10)
  monkeypatch.setattr(layout, '_BITMAP_ITEM_BYTES', 0)
  monkeypatch.setattr(layout, '_MIN_CAPACITY', 1)
  catalog = Catalog.from_codes(np.array(ids), (40, 8, 8))
  with pytest.raises(DataError, match=f'no room for {message}.*`grown`'):
    catalog.add(np.array(many))
  added = catalog.add(np.array(few))
  found = lookup(added, np.array(ids + few, np.int32))
  np.testing.assert_array_equal(found, np.arange(len(ids) + len(few)))
  # What the message advises helps.
  grown = catalog.grown(np.array(many))
  found = lookup(grown, np.array(ids + many, np.int32))
  np.testing.assert_array_equal(found, np.arange(len(ids) + len(many)))
