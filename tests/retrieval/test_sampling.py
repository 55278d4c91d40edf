"""Tests the probabilities of items that are drawn without replacement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tiger_jax.interfaces import ItemLists
from tiger_jax.retrieval.sampling import Sampler, SamplerState

NUM_SEEDS = 20_000
# Each level has invalid codes, and some prefixes have more items than others.
IDS = [(0, 0, 1), (0, 0, 4), (0, 2, 2), (2, 1, 0), (2, 1, 3), (3, 0, 0)]


def _sampler(seeds, temperature=1.0, num_levels=9):
  return Sampler(
    np.asarray(seeds, np.uint32), np.float32(temperature), np.int32(num_levels)
  )


@pytest.fixture(scope='module')
def small(make_case, table_model):
  """Returns a small catalog, and a network that treats all requests alike."""
  case = make_case('three levels')
  model = table_model(case.level_sizes, np.zeros(NUM_SEEDS), 5, 0.7)
  return case.build(np.array(IDS, np.int32)), model


def _draw(small, temperature=1.0, num_levels=9, deny=()):
  """Returns the beams of many draws, one per seed."""
  catalog, model = small
  return model.search(
    catalog,
    8,
    sampler=_sampler(np.arange(NUM_SEEDS), temperature, num_levels),
    lists=ItemLists.of([deny] * NUM_SEEDS),
    codes=np.array(IDS, np.int32),
  )


def _assert_distribution(observed, expected):
  """Asserts equal distributions by a chi-squared test at level 0.003."""
  assert expected.min() > 5
  assert stats.chisquare(observed, expected).pvalue > 0.003


def _assert_drawn_without_replacement(items, probs):
  """Checks the distributions of the first item and of the first two items.

  Args:
    items: The rows of every draw, in the order of the draw.
    probs: The probability of each row, up to a common factor.
  """
  num = len(probs)
  probs = probs / probs.sum()
  first, second = items[:, 0], items[:, 1]
  _assert_distribution(np.bincount(first, minlength=num), len(items) * probs)
  pairs = probs[:, None] * probs[None] / (1 - probs[:, None])
  is_distinct = ~np.eye(num, dtype=bool)
  observed = np.bincount(first * num + second, minlength=num**2)
  assert not observed.reshape(num, num)[~is_distinct].any()
  _assert_distribution(
    observed.reshape(num, num)[is_distinct], len(items) * pairs[is_distinct]
  )


@pytest.mark.parametrize('temperature', [0.7, 1.0, 2.0])
def test_items_are_drawn_without_replacement(small, temperature):
  beams = _draw(small, temperature)
  assert (np.sort(beams.items[:, :6], 1) == np.arange(6)[None]).all()
  assert not beams.valid[:, 6:].any()
  probs = np.exp(small[1].scores(IDS, temperature)[0])
  # The probabilities differ, so uniform draws would fail this test.
  assert probs.max() > 1.5 * probs.min()
  _assert_drawn_without_replacement(beams.items, probs)


def test_only_permitted_items_are_drawn(small):
  beams = _draw(small, deny=[3, 4])
  permitted = np.array([0, 1, 2, 5])
  assert not beams.valid[:, 4:].any()
  # Permitted items have the same order as in draws that deny no items.
  whole = _draw(small).items[:, :6]
  expected = whole[np.isin(whole, permitted)].reshape(-1, 4)
  np.testing.assert_array_equal(beams.items[:, :4], expected)
  probs = np.exp(small[1].scores(IDS)[0, permitted])
  items = np.searchsorted(permitted, beams.items[:, :4])
  _assert_drawn_without_replacement(items, probs)


@pytest.mark.parametrize('num_levels', [1, 2])
def test_only_the_first_levels_are_drawn(small, num_levels):
  beams = _draw(small, 1.5, num_levels)
  suffix_scores = small[1].level_scores(IDS)[0, :, num_levels:].sum(1)
  prefixes = [x[:num_levels] for x in IDS]
  # Items with equal drawn codes are ordered by the probability of their
  # remaining codes.
  place = np.argsort(beams.items[:, :6], 1)
  for a, b in np.ndindex(6, 6):
    if prefixes[a] == prefixes[b] and suffix_scores[a] > suffix_scores[b]:
      assert (place[:, a] < place[:, b]).all()
  # The drawn codes vary.
  first = {prefixes[row] for row in beams.items[:, 0].tolist()}
  assert len(first) == len(set(prefixes))


def test_drawing_no_level_equals_a_plain_search(small):
  catalog, model = small
  plain = model.search(catalog, 8)
  beams = _draw(small, temperature=0.3, num_levels=0)
  np.testing.assert_array_equal(beams.items, plain.items)
  np.testing.assert_allclose(beams.scores, plain.scores, atol=1e-5)
  np.testing.assert_array_equal(beams.exact_k, plain.exact_k)


def test_a_higher_temperature_draws_more_varied_items(small):
  ranked = np.argsort(-small[1].scores(IDS)[0])
  shares = []
  for temperature in (0.05, 0.3, 1.0, 3.0):
    beams = _draw(small, temperature)
    shares.append((beams.items[:, 0] != ranked[0]).mean())
    # The scores do not depend on the temperature.
    scores = small[1].scores(IDS)[0]
    np.testing.assert_allclose(
      beams.scores[:, :6], scores[beams.items[:, :6]], atol=1e-4
    )
    assert (beams.scores[:, 6:] == -np.inf).all()
  assert (np.diff(shares) > 0.05).all()
  assert shares[0] < 0.05


@pytest.fixture(scope='module')
def large(make_case):
  case = make_case('narrow middle, no bitmap')
  return case, case.build()


def test_a_seed_gives_the_same_items_in_every_batch(large, table_model):
  case, catalog = large
  seeds, requests = (
    np.array([3, 1, 4, 1, 5, 9, 2, 6]),
    np.array([7] * 6 + [8] * 2),
  )
  beams = table_model(case.level_sizes, requests).search(
    catalog, 32, sampler=_sampler(seeds)
  )
  order = np.array([6, 2, 7, 0, 3, 5, 4, 1])
  again = table_model(case.level_sizes, requests[order]).search(
    catalog, 32, sampler=_sampler(seeds[order])
  )
  np.testing.assert_array_equal(again.items, beams.items[order])
  np.testing.assert_array_equal(beams.items[1], beams.items[3])
  distinct = {tuple(x) for x in beams.items.tolist()}
  assert len(distinct) == 7


def test_proven_draws_equal_a_search_with_all_beams(large, table_model):
  case, catalog = large
  model = table_model(case.level_sizes, np.arange(8), sharpness=6.0)
  proven = []
  for temperature, num_levels in ((1.0, 9), (0.3, 9), (2.0, 2), (0.5, 1)):
    sampler = _sampler(np.arange(8) + 100, temperature, num_levels)
    narrow = model.search(catalog, 32, sampler=sampler)
    whole = model.search(catalog, 100, sampler=sampler)
    assert (whole.exact_k == 100).all()
    assert (np.sort(whole.items, 1) == np.arange(100)[None]).all()
    for request, exact_k in enumerate(narrow.exact_k):
      np.testing.assert_array_equal(
        narrow.items[request, :exact_k], whole.items[request, :exact_k]
      )
    proven.append(narrow.exact_k)
    rows = np.arange(8)[:, None]
    np.testing.assert_allclose(
      narrow.scores, model.scores(case.codes)[rows, narrow.items], atol=1e-3
    )
  assert np.mean(proven) > 1 and np.min(proven) < 32


def test_new_temperatures_and_seeds_compile_nothing(large, table_model):
  case, catalog = large
  model = table_model(case.level_sizes, np.arange(8))
  compiled = set()
  for temperature, num_levels in ((1.0, 9), (2.0, 1), (0.1, 0)):
    sampler = _sampler(np.arange(8) + num_levels, temperature, num_levels)
    model.search(catalog, 32, sampler=sampler)
    compiled.add(table_model.compiled())
  assert len(compiled) == 1


@pytest.mark.parametrize('sharpness', [0.0, 1.0, 100.0, 1e6])
@pytest.mark.parametrize('level', [0, 1])
def test_no_rank_exceeds_the_rank_of_its_beam(level, sharpness):
  """At a sampled level, the best child of a beam has the rank of the beam."""
  sampler = _sampler([5, 6], 0.5, 1)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(sharpness * rng.normal(size=(2, 3, 40)), jnp.float32)
  rank = jnp.asarray([[0.0, -3.0, -1e6], [5.0, -20.0, -jnp.inf]])
  rngs = jax.random.split(jax.random.key(1), (2, 3))
  log_probs = jnp.asarray(-rng.random((2, 3)), jnp.float32)
  before = SamplerState(rngs, log_probs, rank)
  draws = jax.jit(Sampler.draw, static_argnums=(1, 4))(
    sampler, level, logits, before, 40
  )
  assert not jnp.isnan(draws.rank).any()
  assert (draws.rank <= rank[:, :, None]).all()
  log_softmax = jax.nn.log_softmax(logits / (1 if level else 0.5))
  np.testing.assert_allclose(
    draws.log_probs, log_probs[:, :, None] + log_softmax, rtol=1e-5, atol=1e-5
  )
  if level:
    np.testing.assert_allclose(
      draws.rank, rank[:, :, None] + log_softmax, rtol=1e-5, atol=1e-5
    )
  else:
    np.testing.assert_array_equal(draws.rank.max(2), rank)
