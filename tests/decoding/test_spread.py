"""A catalogue of which every device holds a part."""

import re

import numpy as np
import pytest

from tiger_jax.decoding.filters import ItemLists
from tiger_jax.training.sharding import make_mesh, replicate

NUM_REQUESTS = 8
NUM_BEAMS = 16


@pytest.mark.parametrize(
  ('name', 'filtered'),
  [('four levels, one bitmap', False), ('narrow middle', True)],
)
def test_a_search_sends_no_part_of_the_catalogue(
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
