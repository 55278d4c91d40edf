"""A catalogue of which every device holds a part."""

import re

import jax
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.runtime.sharding import make_mesh, replicate

# The claims are about programs as users compile them.
pytestmark = pytest.mark.as_users

NUM_REQUESTS = 8
NUM_BEAMS = 16
# 200 prefixes of two codes have too many items for a linear scan. An array of
# their list has 257 rows, and 257 is a prime number.
LARGE_SIZES = (4096, 4096, 16, 300)


@jax.jit
def walk(catalog, codes):
  """Returns the valid continuations of the prefixes of IDs, by level."""
  prefixes, found = catalog.root(len(codes)), []
  for level in range(len(LARGE_SIZES)):
    found.append(catalog.children(level, prefixes))
    if level + 1 < len(LARGE_SIZES):
      prefixes = catalog.descend(level, prefixes, codes[:, level, None])
  return found


@pytest.fixture(name='large', scope='module')
def _large():
  """A catalogue of many large prefixes, and items to add to it."""
  prefixes = np.random.default_rng(0).permutation(4096)[:200]
  ids = [(p, p * 7 % 4096, j, j) for p in prefixes for j in range(11)]
  codes = np.array(ids, np.int32)
  new = codes[:, 3] == 10
  catalog = Catalog.from_codes(codes[~new], LARGE_SIZES)
  (nodes,) = {len(x.first) for x in catalog.arrays.large if len(x.first)}
  assert nodes == 256
  return catalog, codes[new]


@pytest.mark.parametrize(
  ('name', 'filtered'),
  [('four levels, one bitmap', False), ('narrow middle', True)],
)
def test_a_search_transfers_no_part_of_the_catalog(
  table_model, make_case, name, filtered
):
  """But what beams have found, which does not grow with the catalogue."""
  case = make_case(name)
  # With hardly any room to spare, most devices get items.
  catalog = case.build(capacity=len(case.codes) + 20)
  mesh = make_mesh()
  split = catalog.spread(mesh, 'data')
  shards = split.arrays.rows.addressable_shards
  held = [(np.asarray(shard.data) >= 0).sum() for shard in shards]
  assert len(held) == 8 and np.count_nonzero(held) >= 6
  assert sum(held) == catalog.size

  options = {}
  if filtered:
    rng = np.random.default_rng(2)
    rows = [rng.permutation(500)[:30].tolist() for _ in range(NUM_REQUESTS)]
    lists = ItemLists.of([x[:20] for x in rows], [rows[0], None] * 4)
    options = {'lists': lists, 'codes': case.codes}
  model = table_model(case.level_sizes, np.arange(NUM_REQUESTS))
  expected = model.search(catalog, NUM_BEAMS, **options)
  options = replicate(mesh, options)
  found = model.search(split, NUM_BEAMS, **options)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)

  text = model.compiled_text(split, NUM_BEAMS, **options)
  assert not re.search(r' (all-gather|all-to-all|collective-permute)', text)
  sums = re.findall(r'= (.*) all-reduce(?:-start)?\(', text)
  shapes = re.findall(r'\[([\d,]+)\]', ' '.join(sums))
  assert shapes
  columns = {str(len(x)) for x in (*split.arrays.columns, split.arrays.rows)}
  assert not any(columns & {*shape.split(',')} for shape in shapes)


@pytest.mark.parametrize('num_devices', [1, 2, 3, 4, 8])
def test_changes_to_many_large_prefixes(large, num_devices):
  catalog, new = large
  mesh = make_mesh(jax.devices()[:num_devices])
  removed = np.arange(5, 2000, 40)

  def change(catalog):
    return catalog.remove(removed).add(new[:30]).remove(removed + 1)

  expected, spread = change(catalog), catalog.spread(mesh, 'data')
  changed = change(spread)
  for one, other in zip(
    jax.tree.leaves(changed), jax.tree.leaves(spread), strict=True
  ):
    assert one.sharding == other.sharding
    assert one.shape == other.shape
  for one, other in zip(changed.items(), expected.items(), strict=True):
    np.testing.assert_array_equal(one, other)
  before, _ = catalog.items()
  asked = np.concatenate([before, new])
  valid = expected.contains(asked)
  assert np.count_nonzero(valid) == expected.size == 2000 - 100 + 30
  np.testing.assert_array_equal(changed.contains(asked), valid)

  # Some of these prefixes now have fewer items, or none.
  asked = asked[np.r_[0:60, -60:0]]
  for found, right in zip(
    walk(changed, asked), walk(expected, asked), strict=True
  ):
    assert np.any(right.valid)
    np.testing.assert_array_equal(found.valid, right.valid)
    if right.codes is not None:
      np.testing.assert_array_equal(
        np.where(found.valid, found.codes, -1),
        np.where(right.valid, right.codes, -1),
      )
