"""Tests the trie against a table of all IDs."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog import index
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import Trie

# Each function runs only once, so optimizing it would not save time.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)
ranges = jit(Trie.ranges)


class Level(NamedTuple):
  """The results of a trie for all prefixes of one length, valid or not.

  Attributes:
    codes: `Children.codes` `[prefixes, w]`.
    valid: `Children.valid` `[prefixes, w]`.
    place: `Trie.place` of every code `[prefixes, v]`, undefined for codes that
      are not children.
    item: `Trie.item` of every code, at the last level.
  """

  codes: np.ndarray | None
  valid: np.ndarray
  place: np.ndarray
  item: np.ndarray | None


@jit
def walk(trie):
  """Descends to every prefix, with all prefixes as beams of one request."""
  prefixes, num_prefixes, levels = trie.root(1), 1, []
  for level, size in enumerate(trie.level_sizes):
    codes, valid = trie.children(level, prefixes)
    code = jnp.tile(jnp.arange(size, dtype=jnp.int32), num_prefixes)[None]
    repeated = jax.tree.map(lambda x, n=size: jnp.repeat(x, n, 1), prefixes)
    place = trie.place(level, repeated, code)
    item = None
    if level < len(trie.level_sizes) - 1:
      prefixes = trie.descend(level, repeated, code)
    else:
      item = trie.item(repeated, place)
    result = Level(codes, valid, place, item)
    levels.append(
      jax.tree.map(lambda x, n=num_prefixes: x.reshape(n, -1), result)
    )
    num_prefixes *= size
  return levels


@pytest.fixture(scope='module')
def levels(case):
  return jax.device_get(walk(case.build()))


def _rows(case):
  """Returns the row of every ID, or -1, with one axis per level."""
  rows = np.full(case.level_sizes, -1)
  rows[tuple(case.codes.T)] = np.arange(len(case.codes))
  return rows


def _next_codes(case, level):
  """Returns whether each code may follow each prefix of `level` codes."""
  later = tuple(range(level + 1, len(case.level_sizes)))
  exists = (_rows(case) >= 0).any(later)
  return exists.reshape(-1, case.level_sizes[level])


def test_children_equal_brute_force(case, levels):
  for level, result in enumerate(levels):
    expected = _next_codes(case, level)
    if result.codes is None:
      np.testing.assert_array_equal(result.valid, expected)
      continue
    codes = result.codes.astype(np.int64)
    assert codes.max() < case.level_sizes[level]
    # Each valid code occurs once, and valid codes ascend.
    counts = np.zeros(expected.shape, int)
    np.add.at(counts, (np.nonzero(result.valid)[0], codes[result.valid]), 1)
    np.testing.assert_array_equal(counts, expected)
    for row, valid in zip(codes, result.valid, strict=True):
      assert (np.diff(row[valid]) > 0).all()


def test_place_is_the_position_in_children(case, levels):
  for level, result in enumerate(levels):
    prefix, code = np.nonzero(_next_codes(case, level))
    place = result.place[prefix, code]
    assert result.valid[prefix, place].all()
    actual = place if result.codes is None else result.codes[prefix, place]
    np.testing.assert_array_equal(actual, code)


def test_item_equals_brute_force(case, levels):
  rows = _rows(case).reshape(-1, case.level_sizes[-1])
  exists = rows >= 0
  np.testing.assert_array_equal(levels[-1].item[exists], rows[exists])


def test_ranges_equal_brute_force(case):
  trie = case.build()
  item_numbers = np.sort(case.numbers(case.codes))
  every_number = np.arange(len(case.every))
  on_device = ranges(trie, jnp.asarray(case.every))
  on_host = index.ranges(trie.layout, jax.device_get(trie.arrays), case.every)
  stride = len(case.every)
  for size, *results in zip(case.level_sizes, on_device, on_host, strict=True):
    stride //= size
    first = every_number // stride * stride
    expected = np.searchsorted(item_numbers, [first, first + stride])
    for first_and_end in results:
      np.testing.assert_array_equal(first_and_end, expected)


def test_children_are_never_read_out_of_bounds(case):
  """Reads are not checked, so an index out of bounds has undefined results."""
  trie = case.build()
  layout, arrays = trie.layout, trie.arrays
  for level in range(layout.num_bitmaps, layout.num_levels):
    column = arrays.columns[level - layout.offsets_depth]
    last = layout.capacity
    if level < layout.num_levels - 1 and layout.scan(level) < layout.span(
      level
    ):
      # No list of codes starts after this position.
      last = layout.slots + layout.num_large[level - layout.num_bitmaps][1]
    assert last + layout.width(level) <= len(column)
  assert len(arrays.rows) >= layout.capacity


def test_the_cases_cover_every_layout(make_case):
  """The other tests of this folder need cases with each of these layouts."""
  trie = make_case('four levels, two offsets').build()
  assert trie.layout.offsets_depth == 2 and trie.layout.num_bitmaps == 3
  for name, dtype in (('narrow', np.uint8), ('wide', np.uint16)):
    case = make_case(f'{name} middle, no bitmap')
    trie = case.build()
    assert trie.layout.offsets_depth == trie.layout.num_bitmaps == 0
    assert trie.arrays.columns[1].dtype == dtype
    # Some prefixes are large, and others are scanned.
    sizes = np.bincount(case.codes[:, 0])
    is_large = sizes > trie.layout.scan(1)
    assert 0 < is_large.sum() < (sizes > 0).sum()
    first = np.cumsum(sizes) - sizes
    large_first = np.asarray(trie.arrays.large[1].first)[: is_large.sum()]
    np.testing.assert_array_equal(large_first, first[is_large])


@pytest.mark.parametrize(
  ('num_next', 'spare', 'num_bitmaps', 'width'),
  # At the second level, 16 codes exist. A list has at most 8 of them.
  [(8, 0, 1, 8), (9, 0, 2, None), (3, 0, 1, 4), (3, 1, 1, 8), (7, 1, 2, None)],
)
def test_short_lists_replace_bitmaps(num_next, spare, num_bitmaps, width):
  """Without spare capacity, a list is as wide as the largest prefix needs."""
  ids = np.indices((4, num_next, 5)).reshape(3, -1).T
  layout = Catalog.from_codes(ids, (4, 16, 5), capacity=len(ids) + spare).layout
  assert layout.num_bitmaps == num_bitmaps
  if width:
    assert layout.width(1) == width
