"""The beam search, compared with one that uses dictionaries and loops."""

import functools
import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.retrieval.beam_search import Beams, beam_search

LEVEL_SIZES = (4, 3, 5)
EVERY_ID = list(itertools.product(*map(range, LEVEL_SIZES)))


def _draw(table_model, seed, num_items, sharpness=2.0):
  """Returns a network for two requests, random IDs and their catalog."""
  rng = np.random.default_rng(seed)
  model = table_model(LEVEL_SIZES, (1, 2), seed, sharpness)
  ids = [EVERY_ID[i] for i in rng.permutation(len(EVERY_ID))[:25]]
  # Removing items keeps the shapes, so the search is not compiled again.
  catalog = _catalog(ids).remove(np.arange(num_items, 25))
  return model, ids[:num_items], catalog


def _catalog(ids):
  codes = np.array(ids, np.int32)
  return Catalog.from_codes(codes, LEVEL_SIZES, capacity=60)


def _assert_equals_slow_search(model, beams, ids, num_beams, constrained=True):
  """Compares the beams of every request with those of `slow_search`."""
  rows = {semantic_id: row for row, semantic_id in enumerate(ids)}
  for request in range(len(model.requests)):
    expected = model.slow_search(request, rows, num_beams, constrained)
    _assert_equal(Beams(*(x[request] for x in beams)), *expected)


def _assert_equal(beams, expected, dropped):
  """Compares the beams of one request with those of `slow_search`."""
  num = len(expected)
  rows = [-1 if row is None else row for *_, row in expected]
  np.testing.assert_array_equal(beams.codes[:num], [x[1] for x in expected])
  np.testing.assert_array_equal(beams.items[:num], rows)
  np.testing.assert_array_equal(beams.valid[:num], np.array(rows) >= 0)
  scores = np.array([x[0] for x in expected])
  np.testing.assert_allclose(beams.scores[:num], scores, atol=1e-5)
  assert (np.asarray(beams.items[num:]) == -1).all()
  assert (np.asarray(beams.scores[num:]) == -np.inf).all()
  assert not np.asarray(beams.valid[num:]).any()
  # Exactly the items that rank above all dropped prefixes are proven.
  proven = [
    (beams.valid[:num] & (scores > dropped + tolerance)).sum()
    for tolerance in (1e-5, -1e-5)
  ]
  assert proven[0] <= beams.exact_k <= proven[1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_items=st.sampled_from([1, 25]),
  num_beams=st.sampled_from([1, 3, 40]),
  constrained=st.booleans(),
)
def test_the_search_equals_a_slow_search(
  table_model, seed, num_items, num_beams, constrained
):
  model, ids, catalog = _draw(table_model, seed, num_items)
  beams = model.search(catalog, num_beams, constrained=constrained)
  _assert_equals_slow_search(model, beams, ids, num_beams, constrained)


def test_the_search_equals_a_slow_search_in_every_catalog_layout(
  table_model, case
):
  catalog = case.build()
  ids = [tuple(x) for x in case.codes.tolist()]
  for seed, sharpness in enumerate((1.0, 3.0, 8.0)):
    model = table_model(case.level_sizes, (1, 2), seed, sharpness)
    beams = model.search(catalog, 20)
    _assert_equals_slow_search(model, beams, ids, 20)


def test_proven_items_equal_a_ranking_of_all_items(table_model, case):
  catalog = case.build()
  proven = []
  for seed, sharpness in itertools.product(range(10, 15), (3.0, 8.0)):
    model = table_model(case.level_sizes, (1, 2), seed, sharpness)
    beams = model.search(catalog, 20)
    scores = model.scores(case.codes)
    for request, exact_k in enumerate(beams.exact_k):
      items = beams.items[request, :exact_k]
      ranked = -np.sort(-scores[request])
      np.testing.assert_allclose(
        scores[request, items], ranked[:exact_k], atol=1e-5
      )
      assert len(set(items)) == exact_k
    proven.append(beams.exact_k)
  # Some searches prove several items. Some items remain unproven if and only if
  # prefixes were dropped.
  assert np.max(proven) >= 5
  dropped = math.prod(case.level_sizes[:-1]) > 20
  assert (np.min(proven) < 20) == dropped


def test_all_items_are_proven_if_nothing_was_dropped(table_model):
  for num_items in (1, 25):
    model, _, catalog = _draw(table_model, 1, num_items)
    beams = model.search(catalog, 40)
    assert (beams.exact_k == num_items).all()


def test_a_dropped_prefix_may_hide_better_items():
  """With two beams, only the first item is proven, and the second is wrong."""
  tables = [
    np.log(np.array(x, np.float32))
    for x in (
      [0.9, 0.06, 0.03, 0.01],
      [0.9, 0.05, 0.05],
      [0.9, 0.04, 0.03, 0.02, 0.01],
    )
  ]
  catalog = _catalog([(1, 1, 1), (2, 0, 0), (0, 0, 0)])
  beams = _search_levels(tables, catalog, 2)
  np.testing.assert_array_equal(beams.items, [[2, 0]])
  np.testing.assert_array_equal(beams.exact_k, [1])
  whole = _search_levels(tables, catalog, 3)
  np.testing.assert_array_equal(whole.items[:, :3], [[2, 1, 0]])
  np.testing.assert_array_equal(whole.exact_k, [3])
  # Without the best item, the search returns item 0, which ranks below the
  # dropped prefix of probability 0.03.
  beams = _search_levels(tables, catalog.remove(np.array([2])), 1)
  np.testing.assert_array_equal(beams.items, [[0]])
  np.testing.assert_array_equal(beams.exact_k, [0])


@pytest.mark.parametrize('num_beams', [3, 40, 60, 70])
def test_beams_are_padded(table_model, num_beams):
  model, _, catalog = _draw(table_model, 2, 25)
  beams = model.search(catalog, num_beams)
  width = min(num_beams, 60)
  assert beams.items.shape == (2, width)
  padded = jax.device_get(beams.padded(num_beams))
  assert padded.codes.shape == (2, num_beams, 3)
  for after, before in zip(padded, beams, strict=True):
    unpadded = after[:, :width] if after.ndim > 1 else after
    np.testing.assert_array_equal(unpadded, before)
  assert (padded.items[:, width:] == -1).all()
  assert (padded.scores[:, width:] == -np.inf).all()
  assert not padded.valid[:, width:].any()
  assert padded.items.shape == padded.scores.shape == padded.valid.shape


def test_an_unconstrained_search_marks_valid_ids(table_model, make_case):
  case = make_case('narrow middle')
  ids = [tuple(x) for x in case.codes.tolist()]
  model = table_model(case.level_sizes, (1, 2))
  beams = model.search(case.build(), 20, constrained=False)
  assert beams.valid.any() and not beams.valid.all()
  _assert_equals_slow_search(model, beams, ids, 20, constrained=False)


@functools.partial(jax.jit, static_argnames=('num_beams', 'constrained'))
def _search_levels(tables, catalog, num_beams, constrained=True):
  """Runs a search with logits that depend only on the level."""

  def step(level, previous, candidates, cache):
    num_beams = 1 if previous is None else previous.shape[1]
    shape = (1, num_beams, LEVEL_SIZES[level])
    return jnp.broadcast_to(tables[level][None, None], shape), cache

  return beam_search(step, (), catalog, 1, num_beams, constrained=constrained)


@pytest.mark.parametrize('constrained', [True, False])
def test_a_search_without_a_cache_equals_a_slow_search(
  table_model, constrained
):
  model, ids, catalog = _draw(table_model, 4, 25)
  model.tables = [x[:1].repeat(len(x), 0) for x in model.tables]
  tables = [x[0] for x in model.tables]
  beams = jax.device_get(_search_levels(tables, catalog, 7, constrained))
  rows = {semantic_id: row for row, semantic_id in enumerate(ids)}
  expected = model.slow_search(0, rows, 7, constrained)
  _assert_equal(Beams(*(x[0] for x in beams)), *expected)


@pytest.mark.parametrize(
  'name', ['four levels, one bitmap', 'narrow middle, no bitmap']
)
def test_all_100_000_beams_are_distinct_items_of_the_catalog(
  table_model, make_case, name
):
  """Each of the two layouts contributes half of the beams."""
  case = make_case(name)
  model = table_model(case.level_sizes, np.arange(64))
  whole = case.build()
  unused = np.setdiff1d(np.arange(len(case.every)), case.numbers(case.codes))
  table = np.concatenate(
    [case.codes, np.zeros((20, len(case.level_sizes)), int)]
  )
  rng = np.random.default_rng(0)
  num_items = 0
  for left in [1, 2, 12, 31, 32] * 2 + [len(case.codes) - 20] * 23:
    # Some items are removed and others are added, at random positions.
    removed = rng.permutation(len(case.codes))[left:]
    added = case.ids(rng.permutation(unused)[: left % 20])
    catalog = whole.remove(removed).add(added)
    table[len(case.codes) :][: len(added)] = added
    beams = model.search(catalog, 32)
    num = min(32, catalog.size)
    assert beams.valid[:, :num].all() and not beams.valid[:, num:].any()
    items = beams.items[:, :num]
    assert not np.isin(items, removed).any() and items.min() >= 0
    assert items.max() < catalog.arrays.num_rows
    np.testing.assert_array_equal(beams.codes[:, :num], table[items])
    ordered = np.sort(items, axis=1)
    assert (ordered[:, 1:] > ordered[:, :-1]).all()
    assert (np.diff(beams.scores[:, :num], axis=1) <= 0).all()
    num_items += items.size
  assert num_items > 100_000 / 2


@settings(max_examples=140, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), num_items=st.integers(1, 600))
def test_a_random_catalog_returns_only_its_items(table_model, seed, num_items):
  """Each example has up to 768 beams, and all together have about 100,000."""
  level_sizes = (12, 12, 12)
  rng = np.random.default_rng(seed)
  numbers = rng.permutation(math.prod(level_sizes))[:num_items]
  codes = np.stack(np.unravel_index(numbers, level_sizes), 1)
  catalog = Catalog.from_codes(codes, level_sizes, capacity=1000)
  model = table_model(level_sizes, rng.integers(0, 97, 32), seed % 7)
  beams = model.search(catalog, 24)
  num = min(24, num_items)
  assert beams.valid[:, :num].all() and not beams.valid[:, num:].any()
  np.testing.assert_array_equal(
    beams.codes[:, :num], codes[beams.items[:, :num]]
  )
  ordered = np.sort(beams.items[:, :num], axis=1)
  assert (ordered[:, 1:] > ordered[:, :-1]).all()
  assert (np.diff(beams.scores[:, :num], axis=1) <= 0).all()


def test_probabilities_are_normalized_before_masking():
  """Two of four codes are valid. Their probabilities are not rescaled."""
  ids = [(1, 0, 0), (3, 2, 4)]
  tables = [np.log(np.arange(1, size + 1.0)) for size in LEVEL_SIZES]
  tables = [table.astype(np.float32) for table in tables]
  beams = _search_levels(tables, _catalog(ids), 2)
  np.testing.assert_array_equal(beams.items, [[1, 0]])
  expected = [4 / 10 * 3 / 6 * 5 / 15, 2 / 10 * 1 / 6 * 1 / 15]
  np.testing.assert_allclose(np.exp(beams.scores), [expected], rtol=1e-5)


def test_ties_are_in_code_order(table_model):
  _, ids, catalog = _draw(table_model, 0, 25)
  tables = [np.zeros(size, np.float32) for size in LEVEL_SIZES]
  beams = _search_levels(tables, catalog, 60)
  best = [tuple(codes) for codes in beams.codes[0, :25].tolist()]
  assert best == sorted(ids)
  # With 12 beams, none of the 12 prefixes of two codes is dropped.
  narrow = _search_levels(tables, catalog, 12)
  np.testing.assert_array_equal(narrow.items, beams.items[:, :12])
  # All items have the same rank, so the narrow search proves no item.
  assert beams.exact_k.tolist() == [25] and narrow.exact_k.tolist() == [0]


def test_item_order_changes_only_the_rows(table_model):
  model, ids, catalog = _draw(table_model, 8, 25)
  order = np.random.default_rng(0).permutation(25)
  before = model.search(catalog, 10)
  after = model.search(_catalog([ids[i] for i in order]), 10)
  np.testing.assert_array_equal(after.codes, before.codes)
  np.testing.assert_array_equal(order[after.items], before.items)
