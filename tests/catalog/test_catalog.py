"""Tests lookups, changes, sharding and files of catalogs."""

import itertools
import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import DataError
from tiger_jax.runtime.sharding import make_mesh

lookup = jax.jit(Catalog.lookup)


def _all_ids(level_sizes):
  return list(itertools.product(*map(range, level_sizes)))


def _catalog(codes, level_sizes, **kwargs):
  return Catalog.from_codes(np.array(codes, np.int32), level_sizes, **kwargs)


def _rows(catalog):
  """Returns the row of every possible ID, or -1."""
  every_id = np.array(_all_ids(catalog.level_sizes), np.int32)
  return np.asarray(lookup(catalog, every_id)).tolist()


def _row(catalog, semantic_id):
  """Returns the row that `Catalog.items` gives to a Semantic ID."""
  codes, rows = catalog.items()
  (slot,) = np.flatnonzero((codes == semantic_id[None]).all(1))
  return rows[slot]


@st.composite
def _catalogs(draw):
  """Draws level sizes, and some of the possible IDs in random order."""
  level_sizes = draw(st.sampled_from([(6,), (3, 4), (2, 3, 4), (3, 1, 2, 5)]))
  size = math.prod(level_sizes)
  order = draw(st.randoms(use_true_random=False)).sample(range(size), size)
  ids = [_all_ids(level_sizes)[i] for i in order]
  return level_sizes, ids[: draw(st.integers(1, size))]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(_catalogs())
def test_lookup_returns_the_row_of_every_valid_id(level_sizes_and_ids):
  level_sizes, ids = level_sizes_and_ids
  catalog = _catalog(ids, level_sizes, capacity=40)
  assert catalog.level_sizes == level_sizes
  rows = {semantic_id: row for row, semantic_id in enumerate(ids)}
  every_id = _all_ids(level_sizes)
  assert _rows(catalog) == [rows.get(x, -1) for x in every_id]
  np.testing.assert_array_equal(
    catalog.contains(np.array(every_id)), [x in rows for x in every_id]
  )
  assert catalog.size == len(ids)
  assert catalog.capacity == 40


@pytest.mark.parametrize('wrong', [-1, 4, 100, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize('level', [0, 1, 2])
def test_lookup_returns_no_row_for_codes_out_of_range(level, wrong):
  codes = np.array(_all_ids((4, 3, 4)), np.int32)
  catalog = Catalog.from_codes(codes, (4, 3, 4))
  invalid = codes.copy()
  invalid[:, level] = wrong
  assert (np.asarray(lookup(catalog, invalid)) == -1).all()
  assert not catalog.contains(invalid).any()


def test_lookup_returns_the_right_row_in_every_layout(case):
  catalog = case.build()
  expected = np.full(len(case.every), -1)
  expected[case.numbers(case.codes)] = np.arange(len(case.codes))
  np.testing.assert_array_equal(lookup(catalog, case.every), expected)
  np.testing.assert_array_equal(catalog.contains(case.every), expected >= 0)
  codes, rows = catalog.items()
  order = np.lexsort(case.codes.T[::-1])
  np.testing.assert_array_equal(rows, order)
  np.testing.assert_array_equal(codes, case.codes[order])


def test_lookup_accepts_arrays_of_any_rank(make_case):
  case = make_case('narrow middle')
  catalog = case.build()
  expected = np.asarray(lookup(catalog, case.every))[:60]
  assert (expected >= 0).any()
  part = case.every[:60].reshape(3, 4, 5, -1)
  rows = lookup(catalog, part)
  np.testing.assert_array_equal(rows, expected.reshape(3, 4, 5))
  assert lookup(catalog, case.every[7]) == expected[7]


def test_items_keep_the_given_rows():
  ids = [(2, 1), (0, 0), (1, 2)]
  catalog = _catalog(ids, (3, 3), rows=np.array([40, 7, 12]))
  assert _rows(catalog) == [7, -1, -1, -1, -1, 12, -1, 40, -1]
  added = catalog.add(np.array([[0, 1], [2, 2]]))
  assert _rows(added) == [7, 41, -1, -1, -1, 12, -1, 40, 42]


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.int64])
def test_codes_may_have_any_integer_type(dtype):
  catalog = Catalog.from_codes(np.array([[0, 3], [2, 1]], dtype), (3, 4))
  catalog = catalog.add(np.array([[1, 3]], dtype))
  assert [x for x in _rows(catalog) if x >= 0] == [0, 2, 1]
  ids = np.array([[1, 3], [1, 2], [0, 3]], dtype)
  assert catalog.contains(ids).tolist() == [True, False, True]


def test_the_default_capacity_exceeds_the_size():
  """The difference is a sixteenth of the size, and at least 1,024."""
  every_id = np.array(_all_ids((257, 256)), np.int32)
  catalog = Catalog.from_codes(every_id[::64], (257, 256))
  assert catalog.capacity == catalog.size + 1024
  (column,) = catalog.arrays.columns
  assert column.dtype == np.uint8
  # The column has 1 byte per entry. The offsets, the bitmap, the item rows and
  # `num_rows` have 4 bytes per entry.
  slots = len(catalog.arrays.rows)
  assert 0 <= slots - catalog.capacity < 256
  assert catalog.nbytes == 4 * (384 + 9 + slots + 1) + slots
  large = Catalog.from_codes(every_id[::2], (257, 256))
  assert large.capacity == large.size + large.size // 16


def test_jitted_functions_hold_no_arrays_as_constants(case):
  catalog = case.build()
  traced = jax.make_jaxpr(Catalog.lookup)(catalog, case.every)
  assert len(traced.in_avals) == len(jax.tree.leaves(catalog)) + 1
  assert sum(np.size(x) for x in traced.consts) <= len(case.level_sizes)


def test_rows_of_removed_items_are_not_reused():
  catalog = _catalog([(0, 0), (1, 1), (2, 2)], (3, 3))
  catalog = catalog.remove(np.array([2]))
  catalog = catalog.add(np.array([[2, 2]]))
  assert _rows(catalog) == [0, -1, -1, -1, 1, -1, -1, -1, 3]
  catalog = catalog.remove(np.array([3, 0])).add(np.array([[2, 0], [0, 1]]))
  assert _rows(catalog) == [-1, 5, -1, -1, 1, -1, 4, -1, -1]


def test_changes_do_not_modify_the_old_catalog():
  before = _catalog([(0, 0), (1, 1), (2, 2)], (3, 3))
  rows = _rows(before)
  after = before.add(np.array([[0, 1]])).remove(np.array([0]))
  assert _rows(before) == rows
  assert before.size == 3
  assert _rows(after) == [-1, 3, -1, -1, 1, -1, -1, -1, 2]


def test_adding_or_removing_no_items_changes_nothing(case):
  catalog = case.build()
  no_items = np.zeros((0, len(case.level_sizes)), np.int32)
  for changed in (catalog.add(no_items), catalog.remove(no_items[:, 0])):
    jax.tree.map(np.testing.assert_array_equal, changed, catalog)


def test_load_returns_the_saved_catalog(case, tmp_path):
  # The loaded catalog must not reuse the row of the removed last item.
  last = len(case.codes) - 1
  catalog = case.build().remove(np.array([last, 3]))
  catalog.save(tmp_path / 'new' / 'catalog')
  loaded = Catalog.load(tmp_path / 'new' / 'catalog')
  assert loaded.level_sizes == case.level_sizes
  assert loaded.capacity == catalog.capacity
  for actual, expected in zip(loaded.items(), catalog.items(), strict=True):
    np.testing.assert_array_equal(actual, expected)
  assert _row(loaded.add(case.codes[3:4]), case.codes[3]) == last + 1


def test_load_refuses_missing_files(tmp_path):
  with pytest.raises(DataError, match='catalog.json is missing'):
    Catalog.load(tmp_path)
  _catalog([(0, 0)], (2, 2)).save(tmp_path)
  (tmp_path / 'catalog.npz').unlink()
  with pytest.raises(DataError, match='catalog.npz is missing'):
    Catalog.load(tmp_path)


@pytest.mark.parametrize('position', [0, 100, -10])
def test_load_refuses_damaged_arrays(tmp_path, position):
  _catalog([(0, 0)], (2, 2)).save(tmp_path)
  path = tmp_path / 'catalog.npz'
  data = bytearray(path.read_bytes())
  data[position] ^= 1
  path.write_bytes(data)
  with pytest.raises(DataError, match='the catalog in .* is damaged'):
    Catalog.load(tmp_path)


@pytest.mark.parametrize(
  'change',
  [
    lambda metadata: metadata.pop('capacity'),
    lambda metadata: metadata.pop('num_rows'),
    lambda metadata: metadata.pop('level_sizes'),
    lambda metadata: metadata.pop('sha256'),
    lambda metadata: metadata.update(level_sizes='two'),
    lambda metadata: metadata.update(num_rows=[None]),
  ],
)
def test_load_refuses_a_damaged_json_file(tmp_path, change):
  _catalog([(0, 0)], (2, 2)).save(tmp_path)
  path = tmp_path / 'catalog.json'
  metadata = json.loads(path.read_text())
  change(metadata)
  path.write_text(json.dumps(metadata))
  with pytest.raises(DataError, match='the catalog in .* is damaged'):
    Catalog.load(tmp_path)
  path.write_text('{"level_sizes": [2, ')
  with pytest.raises(DataError, match='the catalog in .* is damaged'):
    Catalog.load(tmp_path)


def test_grown_adds_items_and_capacity(case):
  catalog = case.build().remove(np.array([1, len(case.codes) - 1]))
  grown = catalog.grown(case.codes[1:2], 2 * len(case.codes) + 7)
  assert grown.capacity == 2 * len(case.codes) + 7
  assert _row(grown, case.codes[1]) == len(case.codes)
  for actual, expected in zip(
    grown.items(), catalog.add(case.codes[1:2]).items(), strict=True
  ):
    np.testing.assert_array_equal(actual, expected)
  grown = grown.add(case.codes[-1:])
  assert _row(grown, case.codes[-1]) == len(case.codes) + 1
  small = catalog.grown(case.codes[:0], catalog.size)
  with pytest.raises(DataError, match='no room for'):
    small.add(case.codes[1:2])
  assert small.grown(case.codes[1:2]).size == catalog.size + 1
  with pytest.raises(DataError, match='do not fit a capacity'):
    catalog.grown(case.codes[:0], catalog.size - 1)
  with pytest.raises(DataError, match='repeat the ID'):
    catalog.grown(case.codes[:1])


def test_changes_keep_the_sharding(case):
  mesh = make_mesh()
  catalog = case.build()
  spread = catalog.spread(mesh, 'data')
  rows = spread.arrays.rows
  assert 8 * len(rows.addressable_shards[0].data) == len(rows)
  changed = spread.remove(np.array([2])).add(case.codes[2:3])
  jax.tree.map(lambda x, y: x.sharding == y.sharding or 1 / 0, changed, spread)
  expected = catalog.remove(np.array([2])).add(case.codes[2:3])
  for array, unpadded in zip(
    jax.tree.leaves(changed.arrays),
    jax.tree.leaves(expected.arrays),
    strict=True,
  ):
    rows = slice(len(unpadded)) if unpadded.ndim else ...
    np.testing.assert_array_equal(array[rows], unpadded)
  num_rows = len(expected.codes)
  np.testing.assert_array_equal(changed.codes[:num_rows], expected.codes)


def test_changes_keep_uncommitted_arrays_uncommitted():
  mesh = make_mesh()
  catalog = _catalog([(0, 0), (1, 1)], (2, 2))
  # The IDs are committed to 8 devices, so they can be combined only with
  # uncommitted arrays.
  ids = catalog.spread(mesh, 'data').arrays.rows[:8, None] * 0
  ids = jnp.concatenate([ids, ids], 1)
  assert len(ids.sharding.device_set) == 8
  for changed in (
    catalog.add(np.array([[0, 1]])),
    catalog.remove(np.array([1])),
  ):
    np.testing.assert_array_equal(lookup(changed, ids), np.zeros(8))


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    ([5, 5], '2 rows, 1 of them distinct, for 2 items'),
    ([0, -1], 'row -1 is negative'),
  ],
)
def test_refuses_invalid_rows(rows, message):
  with pytest.raises(DataError, match=message):
    Catalog.from_codes(np.array([[0], [1]]), (2,), np.array(rows))


def test_contains_refuses_ids_of_the_wrong_length():
  catalog = Catalog.from_codes(np.array([[0, 1]]), (2, 2))
  with pytest.raises(DataError, match=r'shape \(1, 1\): give 2 codes'):
    catalog.contains(np.array([[0]]))


def test_refuses_more_items_than_the_capacity():
  every_id = np.stack(np.unravel_index(np.arange(6), (2, 3)), 1)
  with pytest.raises(DataError, match='5 items do not fit a capacity of 4'):
    Catalog.from_codes(every_id[:5], (2, 3), capacity=4)
  with pytest.raises(DataError, match='1 items do not fit a capacity of 0'):
    Catalog.from_codes(every_id[:1], (2, 3), capacity=0)
  catalog = Catalog.from_codes(every_id[:3], (2, 3), capacity=4)
  message = 'no room for 5 items, only for 4: `grown`'
  with pytest.raises(DataError, match=message):
    catalog.add(every_id[3:5])
  assert catalog.add(every_id[3:4]).size == 4
