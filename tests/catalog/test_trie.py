"""The walk through valid IDs against a table of all IDs."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog import index
from tiger_jax.catalog.trie import Trie

# Each program runs once: to compile it well takes longer.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)
ranges = jit(Trie.ranges)


class Walked(NamedTuple):
  """What a trie says of every prefix of as many codes, valid or not.

  Attributes:
    codes: From `Trie.children` `[prefixes, w]`; or None.
    valid: From `Trie.children`.
    place: Of every code `[prefixes, v]`; means nothing where it is no child.
    item: The row there, at the last level.
  """

  codes: np.ndarray | None
  valid: np.ndarray
  place: np.ndarray
  item: np.ndarray | None


@jit
def walk(trie):
  """Walks to every prefix, as a beam of one request."""
  prefixes, num_prefixes, walked = trie.root(1), 1, []
  for level, size in enumerate(trie.level_sizes):
    codes, valid = trie.children(level, prefixes)
    code = jnp.tile(jnp.arange(size, dtype=jnp.int32), num_prefixes)[None]
    of_each = jax.tree.map(lambda x, n=size: jnp.repeat(x, n, 1), prefixes)
    place = trie.place(level, of_each, code)
    item = None
    if level < len(trie.level_sizes) - 1:
      prefixes = trie.descend(level, of_each, code)
    else:
      item = trie.item(of_each, place)
    found = Walked(codes, valid, place, item)
    walked.append(
      jax.tree.map(lambda x, n=num_prefixes: x.reshape(n, -1), found)
    )
    num_prefixes *= size
  return walked


@pytest.fixture(scope='module')
def walked(case):
  return jax.device_get(walk(case.build()))


def _rows(case):
  """The row of every ID, in an axis for each level; -1 for none."""
  rows = np.full(case.level_sizes, -1)
  rows[tuple(case.codes.T)] = np.arange(len(case.codes))
  return rows


def _follows(case, level):
  """Which codes may follow every prefix of `level` codes."""
  later = tuple(range(level + 1, len(case.level_sizes)))
  there = (_rows(case) >= 0).any(later)
  return there.reshape(-1, case.level_sizes[level])


def test_children_are_the_codes_that_lead_to_an_item(case, walked):
  for level, found in enumerate(walked):
    expected = _follows(case, level)
    if found.codes is None:
      np.testing.assert_array_equal(found.valid, expected)
      continue
    codes = found.codes.astype(np.int64)
    assert codes.max() < case.level_sizes[level]
    # Each of them stands there once, and they rise.
    times = np.zeros(expected.shape, int)
    np.add.at(times, (np.nonzero(found.valid)[0], codes[found.valid]), 1)
    np.testing.assert_array_equal(times, expected)
    for of_one, right in zip(codes, found.valid, strict=True):
      assert (np.diff(of_one[right]) > 0).all()


def test_every_child_has_its_place(case, walked):
  for level, found in enumerate(walked):
    prefix, code = np.nonzero(_follows(case, level))
    place = found.place[prefix, code]
    assert found.valid[prefix, place].all()
    there = place if found.codes is None else found.codes[prefix, place]
    np.testing.assert_array_equal(there, code)


def test_items_are_at_their_places(case, walked):
  rows = _rows(case).reshape(-1, case.level_sizes[-1])
  there = rows >= 0
  np.testing.assert_array_equal(walked[-1].item[there], rows[there])


def test_ranges_count_the_items_before(case):
  trie = case.build()
  taken = np.sort(case.numbers(case.codes))
  every = np.arange(len(case.every))
  on_device = ranges(trie, jnp.asarray(case.every))
  on_host = index.ranges(trie.layout, jax.device_get(trie.arrays), case.every)
  longer = len(case.every)
  for size, *found in zip(case.level_sizes, on_device, on_host, strict=True):
    longer //= size
    first = every // longer * longer
    expected = np.searchsorted(taken, [first, first + longer])
    for first_and_end in found:
      np.testing.assert_array_equal(first_and_end, expected)


def test_children_are_never_looked_for_past_the_end(case):
  """Devices need not check: what they would read there is anybody's guess."""
  trie = case.build()
  layout, arrays = trie.layout, trie.arrays
  for level in range(layout.num_bitmaps, layout.num_levels):
    column = arrays.columns[level - layout.offsets_depth]
    last = layout.capacity
    if level < layout.num_levels - 1 and layout.scan(level) < layout.span(
      level
    ):
      # Where the codes of the last list may begin.
      last = layout.slots + layout.num_large[level - layout.num_bitmaps][1]
    assert last + layout.width(level) <= len(column)
  assert len(arrays.rows) >= layout.capacity


def test_there_are_cases_of_every_kind(make_case):
  """Lest the tests above and those beside them pass for want of cases."""
  trie = make_case('four levels, two offsets').build()
  assert trie.layout.offsets_depth == 2 and trie.layout.num_bitmaps == 3
  for name, dtype in (('narrow', np.uint8), ('wide', np.uint16)):
    case = make_case(f'{name} middle, no bitmap')
    trie = case.build()
    assert trie.layout.offsets_depth == trie.layout.num_bitmaps == 0
    assert trie.arrays.columns[1].dtype == dtype
    # Some prefixes have lists of what follows, others are looked through.
    sizes = np.bincount(case.codes[:, 0])
    large = sizes > trie.layout.scan(1)
    assert 0 < large.sum() < (sizes > 0).sum()
    first = np.cumsum(sizes) - sizes
    listed = np.asarray(trie.arrays.large[1].first)[: large.sum()]
    np.testing.assert_array_equal(listed, first[large])
