"""Tests of the options of recommendations: filters, draws and proofs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.serving.shop import assert_same_items
from tests.sessions import with_limits
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import UsageError
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving.recommender import Options, Recommender
from tiger_jax.serving.terminal import show_proof

NUM_ITEMS = 14


def test_filters_keep_the_order_of_the_remaining_items(recommender):
  history = ['i102', 'i103', 'i105']
  ranked = [e.item_id for e in recommender.recommend(history, NUM_ITEMS)]
  unseen = [item for item in ranked if item not in history]

  def recommend(k=NUM_ITEMS, **options):
    entries = recommender.recommend(history, k, Options(**options))
    return [entry.item_id for entry in entries]

  assert recommend(exclude_seen=True) == unseen
  assert recommend(3, exclude_seen=True) == unseen[:3]
  denied = [ranked[0], ranked[2]]
  not_denied = [item for item in ranked if item not in denied]
  assert recommend(deny=denied) == not_denied
  allowed = [ranked[1], ranked[9], ranked[4]]
  assert recommend(allow=allowed) == [ranked[1], ranked[4], ranked[9]]
  assert recommend(allow=allowed, deny=allowed[:2]) == [ranked[4]]
  assert recommend(allow=[]) == recommend(deny=ranked) == []
  assert recommend(exact=True) == ranked


def test_the_proof_is_reported(recommender):
  # The search has more beams than items, so it drops no prefix.
  items = recommender.recommend(['i102'], NUM_ITEMS, Options(exact=True))
  assert all(entry.proven for entry in items)
  assert show_proof(items) == (
    'Proven: no other item ranks above any of these 14.'
  )
  assert 'draws the same 14 items' in show_proof(items, drawn=True)
  unproven = [e._replace(proven=i < 2) for i, e in enumerate(items)]
  assert show_proof(unproven).startswith('Proven for the first 2 of 14:')


def test_items_excluded_from_one_request_stay_in_other_requests(recommender):
  catalog = {f'i{100 + row}' for row in range(NUM_ITEMS)}
  histories = [['i105'], ['i105', 'i101'], ['i100', 'i101', 'i102', 'i103']]
  together = recommender.recommend_batch(
    histories, NUM_ITEMS, Options(exclude_seen=True)
  )
  for history, items in zip(histories, together, strict=True):
    assert {entry.item_id for entry in items} == catalog - set(history)


def test_draws_are_distinct_and_reproducible(recommender):
  def draw(**options):
    return recommender.recommend(['i102'], 5, Options(**options))

  drawn = draw(temperature=1.0, seed=7)
  assert len({entry.item_id for entry in drawn}) == 5
  assert draw(temperature=1.0, seed=7) == drawn
  assert len({tuple(draw(temperature=3.0, seed=s)) for s in range(5)}) > 1
  first_level_drawn = draw(temperature=3.0, seed=1, drawn_levels=1)
  assert len({entry.item_id for entry in first_level_drawn}) == 5
  # The scores of drawn items are log-probabilities without noise.
  plain = recommender.recommend(['i102'], NUM_ITEMS)
  scores = {entry.item_id: entry.score for entry in plain}
  for entry in (*drawn, *first_level_drawn):
    assert entry.score == pytest.approx(scores[entry.item_id], abs=1e-5)


@pytest.fixture(name='sparse', scope='module')
def _sparse(config):
  """Returns a session and parameters for a shop that uses few possible IDs."""
  num, sizes = 60, (32, 32)
  codes = np.random.default_rng(0).permutation(32 * 32)[:num]
  codes = np.stack(np.unravel_index(codes, sizes), 1).astype(np.int32)
  dataset = Dataset(
    'files',
    Items(tuple(map(str, range(num))), dict.fromkeys(FIELDS, ('',) * num)),
    ('ann',),
    np.arange(3, dtype=np.int32),
    np.array([0, 3]),
  )
  ids = SemanticIds(codes, sizes, 1, {})
  task = TigerTask(Tiger(config.model, sizes), jnp.asarray(codes))
  session = Session.open(config, Inputs(dataset, ids))
  return session, task.init(jax.random.key(0))


def test_a_draw_adds_beams_until_it_is_proven(sparse):
  session, params = sparse
  options = Options(temperature=2.0, seed=3)
  recommender = Recommender(session, params)
  # With 64 beams, the search drops no prefix.
  all_items = recommender.recommend(['5', '1'], 64, options)
  assert len(all_items) == 60 and all(entry.proven for entry in all_items)
  drawn = recommender.recommend(['5', '1'], 5, options)
  assert_same_items(drawn, all_items[:5])
  # With 10 beams, the search misses some of these items and proves only a few.
  limited = Recommender(with_limits(session, max_proof_beams=10), params)
  narrow = limited.recommend(['5', '1'], 5, options)
  proven = [entry.proven for entry in narrow]
  assert [x.item_id for x in narrow] != [x.item_id for x in all_items[:5]]
  assert not all(proven)
  num_proven = sum(proven)
  assert proven == [place < num_proven for place in range(5)]
  assert_same_items(narrow[:num_proven], all_items[:num_proven])
  line = show_proof(narrow, drawn=True)
  assert line.startswith(f'Proven for the first {num_proven} of 5: with more')
  assert line.endswith('may differ. The search is limited to 4,096 beams.')


@pytest.mark.parametrize('options', [{}, {'exact': True}])
def test_options_replace_the_mixture_of_the_run(
  recommender, dataset, ids, params, config, options
):
  def of_a_run(weight, kappa):
    evaluation = dataclasses.replace(
      config.evaluation, transition_weight=weight, transition_kappa=kappa
    )
    run = dataclasses.replace(config, evaluation=evaluation)
    return Recommender(Session.open(run, Inputs(dataset, ids)), params)

  def scores(shop, **mixture):
    # In the training data, item 107 follows item 106.
    items = shop.recommend(['i106'], 4, Options(**options, **mixture))
    return [(x.item_id, pytest.approx(x.score, abs=1e-5)) for x in items]

  mixed = of_a_run(0.6, 3.0)
  plain, own = scores(recommender), scores(mixed)
  assert own != plain
  both = {'transition_weight': 0.6, 'transition_kappa': 3.0}
  assert scores(recommender, **both) == own
  assert scores(mixed, transition_weight=0) == plain
  # An option that is not set has the value of the run.
  assert scores(mixed, transition_kappa=0) == scores(of_a_run(0.6, 0.0)) != own
  assert scores(mixed, transition_weight=1) == scores(of_a_run(1.0, 3.0)) != own


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'transition_weight': 1.5}, 'transition_weight is 1.5'),
    ({'transition_kappa': -1}, 'transition_kappa is -1'),
    ({'transition_kappa': 2}, 'set a transition_weight too'),
    ({'transition_weight': 1, 'temperature': 1.0}, 'the temperature'),
    ({'deny': ['i100', 'gone']}, "'gone' in the catalog .1 of 2 ids in deny"),
    ({'allow': ['gone']}, "'gone' in the catalog: ids look"),
    ({'temperature': 0.0}, 'temperature is 0.0'),
    ({'temperature': float('nan')}, 'temperature is nan'),
    ({'temperature': 1.0, 'drawn_levels': 0}, 'drawn_levels is 0'),
    ({'temperature': 1.0, 'seed': -1}, 'seed is -1'),
    ({'drawn_levels': 1}, 'set a temperature too'),
    ({'seed': 5}, 'set a temperature too'),
    ({'temperature': 1e-38}, 'temperature is 1e-38'),
    ({'temperature': 1.0, 'drawn_levels': 9}, 'Semantic IDs have [23] codes'),
  ],
)
def test_invalid_options_are_refused(recommender, options, message):
  with pytest.raises(UsageError, match=message):
    recommender.recommend(['i100'], 3, Options(**options))
