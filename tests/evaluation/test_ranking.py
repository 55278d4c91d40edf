"""Tests of rankings, on a network for which few beams return wrong lists.

The first `num_proven` items of a list are proven: the search guarantees that
they are the best items in the correct order.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.sessions import with_limits, with_parts
from tests.walks import make_dataset
from tiger_jax.config import EvaluationConfig
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.evaluation.measure import measure
from tiger_jax.evaluation.ranking import Search, Trained, rank, sample_users
from tiger_jax.interfaces import Batch, Recommendations
from tiger_jax.recommenders.inputs import Inputs, training_transitions
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.mixture import Gate
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds

NUM_ITEMS, NUM_USERS, K = 60, 8, 5
SIZES = (32, 32)
CONFIG = from_json(
  {
    'model': {'max_history': 3, **small.MODEL},
    'train': {'length_buckets': (2, 3)},
    'evaluation': {'batch_size': 8},
  }
)  # fmt: skip
# The first search has only 16 beams.
DRAWS = Search(16, until_proven=True, proof_beams=16, temperature=2.0)


@pytest.fixture(name='trained', scope='module')
def _trained():
  rng = np.random.default_rng(0)
  rows = rng.permutation(np.prod(SIZES))[:NUM_ITEMS]
  codes = np.stack(np.unravel_index(rows, SIZES), 1).astype(np.int32)
  # Histories have two lengths, so that the batches are not in user order.
  lengths = [4, 3] * (NUM_USERS // 2)
  walks = [rng.integers(0, NUM_ITEMS, length) for length in lengths]
  dataset = make_dataset(walks, NUM_ITEMS)
  inputs = Inputs(dataset, SemanticIds(codes, SIZES, 2, {}))
  session = Session(CONFIG, inputs, make_mesh(jax.devices()[:1]))
  batch = Batch(*np.full((3, 1, 1), -1, np.int32))
  batch = Batch(batch.history, batch.user[0], batch.target[0])
  init = jax.jit(session.network.init)
  params = init(jax.random.key(0), jnp.asarray(codes), batch)['params']
  return Trained(session, params)


@pytest.fixture(name='dataset', scope='module')
def _dataset(trained):
  return trained.session.inputs.dataset


@pytest.fixture(name='examples', scope='module')
def _examples(dataset):
  return split(dataset, 'test')


@pytest.fixture(name='every_draw', scope='module')
def _every_draw(trained, dataset, examples):
  """Draws all items at temperature 2, by a search with a beam for each item."""
  histories = [dataset.history_of(user)[:-1] for user in range(NUM_USERS)]
  history = np.full((NUM_USERS, 3), -1, np.int32)
  for row, items in zip(history, histories, strict=True):
    row[: len(items)] = items
  user = np.arange(NUM_USERS, dtype=np.int32)
  beams = trained.session.retriever.search(
    trained.params,
    Batch(history, user, user),
    64,
    sampler=Sampler(user.astype(np.uint32), np.float32(2), np.int32(2)),
  )
  assert (np.asarray(beams.exact_k) == NUM_ITEMS).all()
  return np.asarray(beams.items)


def test_proven_draws_equal_those_of_a_search_of_all_items(
  trained, dataset, examples, every_draw
):
  result = rank(trained, examples, K, DRAWS)
  np.testing.assert_array_equal(result.items, every_draw[:, :K])
  assert result.proven == 1
  assert result.user.tolist() == list(range(NUM_USERS))
  np.testing.assert_array_equal(result.target, dataset.history[examples.end])
  np.testing.assert_array_equal(
    result.hits, every_draw[:, :K] == dataset.history[examples.end][:, None]
  )


def test_unproven_items_are_counted(trained, examples, every_draw):
  session = with_limits(trained.session, max_proof_beams=16)
  trained = trained._replace(session=session)
  result = rank(trained, examples, K, DRAWS)
  is_correct = result.items == every_draw[:, :K]
  # With 16 beams, a third of the draws is wrong. No wrong draw is proven.
  assert is_correct.mean() < 0.7
  assert 0.1 < result.proven < 0.7
  for row, num in zip(is_correct, result.num_proven, strict=True):
    assert row[:num].all()
  # Without `until_proven`, as in serving, the search does not add beams.
  serving = rank(
    trained, examples, K, dataclasses.replace(DRAWS, until_proven=False)
  )
  np.testing.assert_array_equal(serving.items, result.items)
  np.testing.assert_array_equal(
    np.minimum(serving.num_proven, K), np.minimum(result.num_proven, K)
  )


def test_kept_items_are_not_excluded(trained, dataset, examples):
  every = [*range(NUM_ITEMS)]

  def lists(keep):
    search = dataclasses.replace(
      DRAWS, temperature=None, exclude_seen=True, keep=keep
    )
    return rank(trained, examples, NUM_ITEMS, search)

  whole = lists(tuple(every))
  assert (np.sort(whole.items) == every).all()
  for keep in (every[::2], []):
    result = lists(np.array(keep, np.int32))
    assert 0 < (result.items < 0).sum() < 3 * NUM_USERS + 1
    for user, (row, expected) in enumerate(
      zip(result.items.tolist(), whole.items.tolist(), strict=True)
    ):
      seen = {*dataset.history_of(user)[:-1].tolist()}
      allowed = [x for x in expected if x in keep or x not in seen]
      assert row == allowed + [-1] * (NUM_ITEMS - len(allowed))


class Recorder(TigerRetriever):
  """Records the number of beams and the batch size of each search."""

  def __init__(self):
    self.calls = set()

  def search_exact(self, params, batch, k, *, num_beams, lists, sampler):
    self.calls.add((num_beams, len(batch.user)))
    items = np.full((len(batch.user), k), -1, np.int32)
    zeros = np.zeros(len(items), np.int32)
    codes = np.zeros((*items.shape, 2), np.int32)
    return Beams(items, codes, 0.0 * items, items >= 0, zeros)

  def search(self, *arguments, constrained, **more):
    assert constrained
    return self.search_exact(*arguments, **more)


@pytest.mark.parametrize(
  ('num_beams', 'batch_size', 'proven', 'call'),
  [
    (30, 8, True, (512, 8)),
    (600, 256, True, (600, 32)),
    (30, 256, False, (30, 256)),
  ],
)
def test_a_search_until_proven_has_many_beams_and_small_batches(
  trained, examples, num_beams, batch_size, proven, call
):
  evaluation = EvaluationConfig(batch_size=batch_size)
  config = dataclasses.replace(CONFIG, evaluation=evaluation)
  retriever = Recorder()
  session = dataclasses.replace(trained.session, config=config)
  rank(
    Trained(with_parts(session, retriever=retriever), {}),
    examples,
    K,
    Search(num_beams, until_proven=proven),
  )
  assert retriever.calls == {call}


class Scores(ItemRetriever):
  """Recommends only item 7, or only item 8 in an approximate search."""

  def __init__(self):
    pass

  def recommend(self, params, batch, k, lists=None, item=7):
    items = jnp.full((len(batch.user), k), -1).at[:, 0].set(item)
    return Recommendations(items, 1.0 * items, items >= 0)

  def recommend_approximately(self, params, batch, k, lists=None):
    return self.recommend(params, batch, k, lists, 8)


@pytest.mark.parametrize(
  ('approximate', 'item', 'proven'), [(False, 7, 1), (True, 8, 0)]
)
def test_exact_lists_are_proven_and_approximate_lists_are_not(
  trained, examples, approximate, item, proven
):
  session = with_parts(trained.session, retriever=Scores())
  search = Search(approximate=approximate)
  result = rank(Trained(session, {}), examples, 3, search)
  assert result.items.tolist() == [[item, -1, -1]] * NUM_USERS
  assert result.proven == proven


def test_transitions_change_only_lists_whose_history_has_transitions(
  trained, dataset, examples
):
  gate = Gate(0.9)
  result = rank(trained, examples, K, Search(K, gate=gate))
  alone = rank(trained, examples, K, Search(K))
  table = training_transitions(trained.session.inputs)
  for user in range(NUM_USERS):
    # Users with two training items have a transition; the others have one item.
    has_transition = np.diff(table.start)[dataset.history_of(user)[:-1]].any()
    is_same = np.array_equal(result.scores[user], alone.scores[user])
    assert is_same == (not has_transition), user
  assert (result.items[::2, 0] == [
    dataset.history_of(user)[1] for user in range(0, NUM_USERS, 2)
  ]).mean() > 0.5  # fmt: skip
  # The transitions do not change the share of invalid IDs.
  values, _ = measure(trained, examples, Search(20, gate=gate))
  expected, _ = measure(trained, examples, Search(20))
  for name in ('invalid@10', 'invalid@20'):
    assert values[name] == expected[name] > 0


def test_the_search_settings_come_from_the_config():
  config = EvaluationConfig(num_beams=40, search='approximate')
  assert Search.from_config(config) == Search(40, approximate=True)
  assert Search.from_config(EvaluationConfig()) == Search(30) == Search()
  config = EvaluationConfig(transition_weight=0.5, transition_kappa=3.0)
  assert Search.from_config(config) == Search(gate=Gate(0.5, 3.0))


def test_users_are_drawn_at_random():
  examples = split(synthetic.make(400, seed=0), 'validation')
  first, again, other = (
    sample_users(examples, 50, seed).user.tolist() for seed in (1, 1, 2)
  )
  assert first == again != other
  assert first == sorted(set(first)) and len(first) == 50
  # The sample is drawn from all users, not from the first ones.
  assert first[0] < 100 and first[-1] > 300
  assert sample_users(examples, 0, 1) is examples
