"""A search with probabilities that are normalized over valid codes."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.interfaces import ItemLists
from tiger_jax.retrieval.sampling import Sampler

LEVEL_SIZES = (4, 3, 5)
EVERY_ID = list(itertools.product(*map(range, LEVEL_SIZES)))


def _search(model, catalog, num_beams, **options):
  return model.search(catalog, num_beams, normalize_children=True, **options)


def _assert_equals_slow_search(model, beams, ids, num_beams):
  """Compares all requests with `slow_search`; `ids` maps IDs to rows."""
  for request in range(len(model.requests)):
    expected, dropped = model.slow_search(
      request, ids, num_beams, normalize_children=True
    )
    num = len(expected)
    assert beams.valid[request].sum() == num
    rows = [row for *_, row in expected]
    assert beams.items[request, :num].tolist() == rows
    scores = np.array([x[0] for x in expected])
    np.testing.assert_allclose(beams.scores[request, :num], scores, atol=1e-5)
    assert (beams.scores[request, num:] == -np.inf).all()
    proven = [(scores > dropped + x).sum() for x in (1e-5, -1e-5)]
    assert proven[0] <= beams.exact_k[request] <= proven[1]


def test_the_search_equals_a_slow_search_in_every_catalog_layout(
  table_model, case
):
  catalog = case.build()
  ids = {tuple(x): row for row, x in enumerate(case.codes.tolist())}
  for seed, sharpness in enumerate((1.0, 3.0, 8.0)):
    model = table_model(case.level_sizes, (1, 2), seed, sharpness)
    beams = _search(model, catalog, 20)
    _assert_equals_slow_search(model, beams, ids, 20)
    ranked = -np.sort(-model.scores_among(case.codes))
    for request, exact_k in enumerate(beams.exact_k):
      np.testing.assert_allclose(
        beams.scores[request, :exact_k], ranked[request, :exact_k], atol=1e-5
      )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_items=st.sampled_from([1, 2, 9, 25]),
  num_beams=st.sampled_from([1, 3, 40]),
)
def test_the_search_equals_a_slow_search(
  table_model, seed, num_items, num_beams
):
  rng = np.random.default_rng(seed)
  ids = [EVERY_ID[i] for i in rng.permutation(len(EVERY_ID))[:25]]
  catalog = Catalog.from_codes(np.array(ids), LEVEL_SIZES, capacity=60)
  catalog = catalog.remove(np.arange(num_items, 25))
  model = table_model(LEVEL_SIZES, (1, 2), seed, rng.choice([0.1, 2.0, 30.0]))
  beams = _search(model, catalog, num_beams)
  rows = {semantic_id: row for row, semantic_id in enumerate(ids[:num_items])}
  _assert_equals_slow_search(model, beams, rows, num_beams)
  if num_beams == 40:
    np.testing.assert_allclose(np.exp(beams.scores).sum(1), 1, rtol=1e-5)
    assert (beams.exact_k == num_items).all()


# In the second layout, only the first level has a bitmap.
@pytest.fixture(
  name='layout',
  scope='module',
  params=['three levels', 'four levels, one bitmap'],
)
def _layout(request, make_case):
  return make_case(request.param)


def test_added_and_removed_items_change_the_normalizer(table_model, layout):
  codes, new = layout.codes[:20], layout.codes[20:23]
  catalog = layout.build(codes, capacity=25)
  model = table_model(layout.level_sizes, (3, 4))
  _search(model, catalog, 32)
  compiled = table_model.compiled()
  catalog = catalog.add(new).remove(np.array([2, 7]))
  beams = _search(model, catalog, 32)
  assert table_model.compiled() == compiled
  table = np.concatenate([codes, new])
  kept = np.delete(np.arange(23), [2, 7])
  scores = np.full((2, 23), -np.inf)
  scores[:, kept] = model.scores_among(table[kept])
  order = np.argsort(-scores, 1)[:, :21]
  np.testing.assert_array_equal(beams.items[:, :21], order)
  np.testing.assert_allclose(
    beams.scores[:, :21], np.take_along_axis(scores, order, 1), atol=1e-5
  )
  np.testing.assert_allclose(np.exp(beams.scores).sum(1), 1, rtol=1e-5)
  assert not beams.valid[:, 21:].any()


def _permitted(deny, allow, num_rows):
  rows = set(range(num_rows)) if allow is None else set(allow)
  return sorted(rows - set(deny))


def test_lists_do_not_change_probabilities(table_model, layout):
  """With enough beams, the permitted items keep their scores and order."""
  catalog, num_rows = layout.build(layout.codes[:25]), 25
  codes = layout.codes[:25]
  model = table_model(layout.level_sizes, np.arange(6))
  first = codes[:, 0]
  common = np.flatnonzero(first == np.bincount(first).argmax()).tolist()
  every = list(range(num_rows))
  # The third request denies all items with the most common first code.
  deny = [[], [3, 4, 5], common, every, every[1:], []]
  allow = [None, None, None, None, None, [2, 6, 11, *common[:2]]]
  lists = ItemLists.of(deny, allow)
  beams = _search(model, catalog, 32, lists=lists, codes=codes)
  scores = model.scores_among(codes)
  for request, lists in enumerate(zip(deny, allow, strict=True)):
    rows = np.array(_permitted(*lists, num_rows), int)
    rows = rows[np.argsort(-scores[request, rows])]
    num = len(rows)
    assert beams.items[request, :num].tolist() == rows.tolist()
    np.testing.assert_allclose(
      beams.scores[request, :num], scores[request, rows], atol=1e-5
    )
    assert not beams.valid[request, num:].any()
    assert (beams.scores[request, num:] == -np.inf).all()
    assert beams.exact_k[request] == num


def test_few_beams_with_lists_prove_only_the_best_items(table_model, layout):
  codes = layout.codes[:25]
  proven = []
  for seed in range(4):
    model = table_model(layout.level_sizes, np.arange(4), seed, 6.0)
    scores = model.scores_among(codes)
    rng = np.random.default_rng(seed)
    deny = [rng.permutation(25)[:12].tolist() for _ in range(4)]
    lists = ItemLists.of(deny)
    beams = _search(model, layout.build(codes), 4, lists=lists, codes=codes)
    scores[np.arange(4)[:, None], np.array(deny)] = -np.inf
    ranked = np.argsort(-scores, 1)
    for request, exact_k in enumerate(beams.exact_k):
      items = beams.items[request]
      assert beams.valid[request].all()
      np.testing.assert_array_equal(items[:exact_k], ranked[request, :exact_k])
      np.testing.assert_allclose(
        beams.scores[request], scores[request, items], atol=1e-4
      )
    proven.append(beams.exact_k)
  assert np.max(proven) >= 2 and np.min(proven) < 4


NUM_SEEDS = 8000
IDS = [(0, 0, 1), (0, 0, 4), (0, 2, 2), (2, 1, 0), (2, 1, 3), (3, 0, 0)]


def _sampler(temperature=1.0, num_levels=9, num_seeds=NUM_SEEDS):
  return Sampler(
    np.arange(num_seeds, dtype=np.uint32) + 10**6,
    np.float32(temperature),
    np.int32(num_levels),
  )


@pytest.fixture(
  name='small',
  scope='module',
  params=['three levels', 'narrow middle, no bitmap'],
)
def _small(request, make_case, table_model):
  """Returns a catalog, its codes, and networks for many requests and for one.

  The networks treat all requests alike.
  """
  case, codes = make_case(request.param), np.array(IDS, np.int32)
  catalog = case.build(codes)
  has_bitmaps = request.param == 'three levels'
  assert (catalog.layout.num_bitmaps > 0) == has_bitmaps
  model = table_model(case.level_sizes, np.zeros(NUM_SEEDS), 5, 0.5)
  one = table_model(case.level_sizes, [0], 5, 0.5)
  return catalog, codes, model, one


def _draw(small, sampler, deny=()):
  catalog, codes, model, _ = small
  lists = ItemLists.of([deny] * NUM_SEEDS)
  return _search(model, catalog, 8, sampler=sampler, lists=lists, codes=codes)


@pytest.mark.parametrize(
  ('temperature', 'deny'),
  [(1.0, []), (2.0, [3, 4]), (0.5, [0, 2, 5])],
)
def test_items_are_drawn_without_replacement(small, temperature, deny):
  """In one case, denying rows 3 and 4 leaves no item with first code 2."""
  beams = _draw(small, _sampler(temperature), deny)
  _, codes, _, one = small
  permitted = np.setdiff1d(np.arange(6), deny)
  num = len(permitted)
  np.testing.assert_array_equal(
    np.sort(beams.items[:, :num], 1), np.tile(permitted, (NUM_SEEDS, 1))
  )
  assert not beams.valid[:, num:].any()
  assert (beams.scores[:, num:] == -np.inf).all()
  # The scores depend on neither the lists nor the temperature.
  scores = one.scores_among(codes)[0]
  np.testing.assert_allclose(
    beams.scores[:, :num], scores[beams.items[:, :num]], atol=1e-4
  )
  probs = np.exp(one.scores_among(codes, temperature)[0, permitted])
  probs /= probs.sum()
  # The probabilities differ, so uniform draws would fail this test.
  assert probs.max() > 1.5 * probs.min()
  items = np.searchsorted(permitted, beams.items[:, :num])
  pairs = probs[:, None] * probs / (1 - probs[:, None])
  is_distinct = ~np.eye(num, dtype=bool)
  observed = np.zeros((num, num))
  np.add.at(observed, (items[:, 0], items[:, 1]), 1)
  expected = NUM_SEEDS * pairs[is_distinct]
  assert expected.min() > 5 and not observed[~is_distinct].any()
  assert stats.chisquare(observed[is_distinct], expected).pvalue > 0.003


def test_drawing_no_level_equals_a_plain_search(small):
  catalog, _, model, _ = small
  plain = _search(model, catalog, 8)
  beams = _draw(small, _sampler(0.3, 0))
  np.testing.assert_array_equal(beams.items, plain.items)
  np.testing.assert_allclose(beams.scores, plain.scores, atol=1e-5)
  np.testing.assert_array_equal(beams.exact_k, plain.exact_k)


def test_a_draw_does_not_depend_on_other_valid_codes(make_case, table_model):
  """Two items keep their order when a third item is added between them."""
  case = make_case('narrow middle, no bitmap')
  codes = np.array([(0, 0, 1), (0, 2, 4)], np.int32)
  catalog = case.build(codes, capacity=50)
  model = table_model(case.level_sizes, np.zeros(200), 5, 0.7)
  sampler = _sampler(num_seeds=200)
  before = _search(model, catalog, 8, sampler=sampler).items[:, :2]
  catalog = catalog.add(np.array([(0, 1, 2)], np.int32))
  after = _search(model, catalog, 8, sampler=sampler).items[:, :3]
  kept = after[after != 2].reshape(200, 2)
  assert 20 < (before[:, 0] == 0).sum() < 180
  np.testing.assert_array_equal(kept, before)


def test_continuations_of_a_masked_beam_are_masked():
  """The ranks are -inf and not NaN, because some devices rank NaN first."""
  sampler = _sampler(num_seeds=2)
  logits = jnp.zeros((2, 1, 5)).at[:, :, 1:].set(-jnp.inf)
  state = sampler.draw(0, logits, sampler.start(), 5)
  parent = jnp.zeros((2, 3), jnp.int32)
  code = jnp.tile(jnp.arange(3), (2, 1))
  rank = state.rank[:, 0, :3]
  assert np.isfinite(rank[:, 0]).all() and np.isinf(rank[:, 1:]).all()
  state = state.advance(parent, code, code, rank)
  ranks = np.asarray(sampler.draw(1, jnp.zeros((2, 3, 4)), state, 4).rank)
  assert np.isfinite(ranks[:, 0]).all()
  assert (ranks[:, 1:] == -np.inf).all()


def test_proven_draws_equal_a_search_with_all_beams(table_model, layout):
  codes = layout.codes[:25]
  catalog, sampler = layout.build(codes), _sampler(num_seeds=8)
  model = table_model(layout.level_sizes, np.arange(8), sharpness=3.0)
  lists = ItemLists.of([[1, 2, 3], range(8), [], range(21)] * 2)
  options = {'sampler': sampler, 'lists': lists, 'codes': codes}
  narrow = _search(model, catalog, 6, **options)
  whole = _search(model, catalog, 32, **options)
  num_permitted = np.array([22, 17, 25, 4] * 2)
  np.testing.assert_array_equal(whole.exact_k, num_permitted)
  scores = model.scores_among(codes)
  for request, exact_k in enumerate(narrow.exact_k):
    np.testing.assert_array_equal(
      narrow.items[request, :exact_k], whole.items[request, :exact_k]
    )
    valid = narrow.valid[request]
    assert valid.sum() == min(6, num_permitted[request])
    np.testing.assert_allclose(
      narrow.scores[request, valid],
      scores[request, narrow.items[request, valid]],
      atol=1e-4,
    )
  assert narrow.exact_k.max() >= 3
