"""Tests of a catalog that is sharded over several devices."""

import re

import jax
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.interfaces import ItemLists
from tiger_jax.runtime.sharding import make_mesh, replicate

# These tests need the default compiler options, as users have them.
pytestmark = pytest.mark.as_users

NUM_REQUESTS = 8
NUM_BEAMS = 16
# 200 prefixes of two codes have too many items for a linear scan. Their array
# `LargeNodes.start` has 257 entries. This number is prime, so the array must be
# padded before several devices can share it equally.
LARGE_SIZES = (4096, 4096, 16, 300)


@jax.jit
def children_of(catalog, codes):
  """Returns the children of every prefix of the IDs, by level."""
  prefixes, children = catalog.root(len(codes)), []
  for level in range(len(LARGE_SIZES)):
    children.append(catalog.children(level, prefixes))
    if level + 1 < len(LARGE_SIZES):
      prefixes = catalog.descend(level, prefixes, codes[:, level, None])
  return children


@pytest.fixture(name='large', scope='module')
def _large():
  """Returns a catalog with many large prefixes, and new items to add."""
  prefixes = np.random.default_rng(0).permutation(4096)[:200]
  ids = [(p, p * 7 % 4096, j, j) for p in prefixes for j in range(11)]
  codes = np.array(ids, np.int32)
  new = codes[:, 3] == 10
  catalog = Catalog.from_codes(codes[~new], LARGE_SIZES)
  (nodes,) = {len(x.first) for x in catalog.arrays.large if len(x.first)}
  assert nodes == 512
  return catalog, codes[new]


@pytest.mark.parametrize(
  ('name', 'filtered', 'normalize_children'),
  [
    ('four levels, one bitmap', False, False),
    ('narrow middle', True, False),
    ('four levels, one bitmap', True, True),
  ],
)
def test_a_search_transfers_no_part_of_the_catalog(
  table_model, make_case, name, filtered, normalize_children
):
  """Devices exchange per-beam results, but no columns of the catalog."""
  case = make_case(name)
  # With little spare capacity, most devices hold items.
  catalog = case.build(capacity=len(case.codes) + 20)
  mesh = make_mesh()
  sharded = catalog.spread(mesh, 'data')
  shards = sharded.arrays.rows.addressable_shards
  num_items = [(np.asarray(shard.data) >= 0).sum() for shard in shards]
  assert len(num_items) == 8 and np.count_nonzero(num_items) >= 6
  assert sum(num_items) == catalog.size

  options = {}
  static = {'normalize_children': normalize_children}
  if filtered:
    rng = np.random.default_rng(2)
    rows = [
      rng.permutation(len(case.codes))[:30].tolist()
      for _ in range(NUM_REQUESTS)
    ]
    lists = ItemLists.of([x[:20] for x in rows], [rows[0], None] * 4)
    options = {'lists': lists, 'codes': case.codes}
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  expected = model.search(catalog, NUM_BEAMS, **options, **static)
  options = replicate(mesh, options)
  beams = model.search(sharded, NUM_BEAMS, **options, **static)
  for actual, desired in zip(beams, expected, strict=True):
    np.testing.assert_allclose(actual, desired, atol=1e-5)

  text = model.compiled_text(sharded, NUM_BEAMS, **options, **static)
  assert not re.search(r' (all-gather|all-to-all|collective-permute)', text)
  sums = re.findall(r'= (.*) all-reduce(?:-start)?\(', text)
  shapes = re.findall(r'\[([\d,]+)\]', ' '.join(sums))
  assert shapes
  columns = {
    str(len(x)) for x in (*sharded.arrays.columns, sharded.arrays.rows)
  }
  assert not any(columns & {*shape.split(',')} for shape in shapes)


@pytest.mark.parametrize('num_devices', [1, 2, 3, 4, 8])
def test_changes_to_many_large_prefixes_keep_the_sharding(large, num_devices):
  catalog, new = large
  mesh = make_mesh(jax.devices()[:num_devices])
  removed = np.arange(5, 2000, 40)

  def change(catalog):
    return catalog.remove(removed).add(new[:30]).remove(removed + 1)

  expected, spread = change(catalog), catalog.spread(mesh, 'data')
  changed = change(spread)
  for after, before in zip(
    jax.tree.leaves(changed), jax.tree.leaves(spread), strict=True
  ):
    assert after.sharding == before.sharding
    assert after.shape == before.shape
  for actual, desired in zip(changed.items(), expected.items(), strict=True):
    np.testing.assert_array_equal(actual, desired)
  old, _ = catalog.items()
  codes = np.concatenate([old, new])
  valid = expected.contains(codes)
  assert np.count_nonzero(valid) == expected.size == 2000 - 100 + 30
  np.testing.assert_array_equal(changed.contains(codes), valid)

  # Some prefixes of these IDs now have fewer items, or none.
  codes = codes[np.r_[0:60, -60:0]]
  for actual, desired in zip(
    children_of(changed, codes), children_of(expected, codes), strict=True
  ):
    assert np.any(desired.valid)
    np.testing.assert_array_equal(actual.valid, desired.valid)
    if desired.codes is not None:
      np.testing.assert_array_equal(
        np.where(actual.valid, actual.codes, -1),
        np.where(desired.valid, desired.codes, -1),
      )
