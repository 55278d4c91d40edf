"""Tests sorted IDs against NumPy's sort and search, and against loops."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.catalog import sorted_ids
from tiger_jax.errors import DataError

# The larger entries have so many possible IDs that a key needs all 63 bits, or
# that an ID needs several keys.
LEVEL_SIZES = [
  (7,),
  (4, 3, 5),
  (2**21, 2**21, 2**21),
  (2**21, 2**21, 2**21 + 1),
  (2**33, 2**32),
  (2048,) * 8,
  (3, 2**62, 5, 2**63, 2),
]


def _draw(level_sizes, seed, num_items=200):
  """Returns distinct IDs with few distinct codes, so that prefixes recur."""
  rng = np.random.default_rng(seed)
  columns = [
    rng.choice([0, size // 2, size - 1, rng.integers(size)], num_items)
    for size in level_sizes
  ]
  codes = np.unique(np.stack(columns, 1), axis=0)
  return rng.permutation(codes)


@pytest.mark.parametrize('level_sizes', LEVEL_SIZES)
def test_sort_order_equals_lexsort(level_sizes):
  for seed in range(5):
    codes = _draw(level_sizes, seed)
    order = sorted_ids.sort_order(codes, level_sizes)
    np.testing.assert_array_equal(order, np.lexsort(codes.T[::-1]))


@pytest.mark.parametrize('level_sizes', LEVEL_SIZES)
def test_sort_order_keeps_sorted_ids_in_order(level_sizes):
  codes = _draw(level_sizes, 0)
  codes = codes[np.lexsort(codes.T[::-1])]
  order = sorted_ids.sort_order(codes, level_sizes)
  np.testing.assert_array_equal(order, np.arange(len(codes)))


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.uint64])
def test_sort_order_accepts_every_integer_type(dtype):
  codes = _draw((256, 2, 256), 1) // np.array([[2, 1, 2]])
  order = sorted_ids.sort_order(codes.astype(dtype), (256, 2, 256))
  np.testing.assert_array_equal(order, np.lexsort(codes.T[::-1]))


@pytest.mark.parametrize('num_items', [0, 1])
def test_sort_order_accepts_no_items_or_one_item(num_items):
  codes = np.full((num_items, 2), 1)
  order = sorted_ids.sort_order(codes, (2, 2))
  np.testing.assert_array_equal(order, np.arange(num_items))


@pytest.mark.parametrize('level_sizes', LEVEL_SIZES)
@pytest.mark.parametrize('presorted', [True, False])
def test_sort_order_refuses_repeated_ids(level_sizes, presorted):
  codes = _draw(level_sizes, 2)
  codes = np.concatenate([codes, codes[:2], codes[:1]])
  if presorted:
    codes = codes[np.lexsort(codes.T[::-1])]
  with pytest.raises(DataError, match=f'3 of {len(codes)} items repeat'):
    sorted_ids.sort_order(codes, level_sizes)


@pytest.mark.parametrize('level', range(8))
def test_sort_order_compares_the_codes_of_every_level(level):
  codes = np.zeros((2, 8), np.int64)
  codes[0, level] = 2047
  order = sorted_ids.sort_order(codes, (2048,) * 8)
  np.testing.assert_array_equal(order, [1, 0])


@pytest.mark.parametrize(
  ('level_size', 'dtype'),
  [(1, 'uint8'), (256, 'uint8'), (257, 'uint16'), (65537, 'uint32')],
)
def test_code_dtype_is_the_narrowest_type(level_size, dtype):
  assert sorted_ids.code_dtype(level_size) == dtype


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
  lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
  seed=st.integers(0, 2**32 - 1),
  dtype=st.sampled_from([np.uint8, np.int32]),
)
def test_lower_bound_equals_searchsorted_in_every_range(lengths, seed, dtype):
  rng = np.random.default_rng(seed)
  parts = [np.sort(rng.integers(0, 6, length)) for length in lengths]
  column = np.concatenate([*parts, rng.integers(0, 6, 3)]).astype(dtype)
  end = np.cumsum(lengths)
  low, high, value = (
    np.repeat(x, 8) for x in (end - lengths, end, np.zeros(len(end), np.int64))
  )
  value += np.tile(np.arange(-1, 7), len(end))
  old_low, old_high = low.copy(), high.copy()
  slots = sorted_ids.lower_bound(column, low, high, value)
  expected = [
    a + np.searchsorted(column[a:b].astype(np.int64), v)
    for a, b, v in zip(low, high, value, strict=True)
  ]
  np.testing.assert_array_equal(slots, expected)
  # The arguments are not modified.
  np.testing.assert_array_equal((low, high), (old_low, old_high))


def test_lower_bound_can_be_the_end_of_the_range():
  column = np.array([3, 1, 2], np.uint8)
  slots = sorted_ids.lower_bound(
    column, np.array([1, 3, 0]), np.array([3, 3, 1]), np.array([9, 0, 4])
  )
  np.testing.assert_array_equal(slots, [3, 3, 1])


def _nodes(codes, depth):
  """Maps every prefix of `depth` codes to its slots, in order."""
  nodes = {}
  for slot, semantic_id in enumerate(codes.tolist()):
    nodes.setdefault(tuple(semantic_id[:depth]), []).append(slot)
  return nodes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_items=st.integers(1, 60),
  offsets_depth=st.integers(0, 2),
  more_than=st.integers(1, 6),
)
def test_large_nodes_equal_those_of_a_loop(
  seed, num_items, offsets_depth, more_than
):
  level_sizes = (3, 2, 4, 3)
  every_id = np.array(list(itertools.product(*map(range, level_sizes))))
  chosen = np.random.default_rng(seed).permutation(len(every_id))[:num_items]
  codes = every_id[np.sort(chosen)]
  # Columns and offsets have unused entries at the end.
  columns = [np.append(x, [2, 0, 2]).astype(np.uint8) for x in codes.T]
  short = [*itertools.product(*map(range, level_sizes[:offsets_depth]))]
  number = [short.index(tuple(x)) for x in codes[:, :offsets_depth].tolist()]
  counts = np.bincount(number, minlength=len(short))
  offsets = np.concatenate([[0], np.cumsum(counts), [num_items] * 4])
  for depth in range(offsets_depth, 4):
    nodes = _nodes(codes, depth)
    starts = sorted_ids.node_starts(
      offsets, columns[offsets_depth:depth], num_items
    )
    firsts = [slots[0] for slots in nodes.values()]
    np.testing.assert_array_equal(np.flatnonzero(starts), firsts)
    assert len(starts) == num_items
    sizes = [len(slots) for slots in nodes.values()]
    assert sorted_ids.largest_node(starts) == max(sizes)

    result = sorted_ids.large_nodes(starts, columns[depth], more_than)
    large = [slots for slots in nodes.values() if len(slots) > more_than]
    np.testing.assert_array_equal(result.first, [slots[0] for slots in large])
    next_codes = [sorted(set(codes[slots, depth].tolist())) for slots in large]
    assert len(result.start) == len(large) + 1
    assert result.start[0] == 0
    for i, expected in enumerate(next_codes):
      start, end = result.start[i : i + 2]
      assert result.codes[start:end].tolist() == expected
    assert len(result.codes) == result.start[-1]
