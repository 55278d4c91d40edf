"""Metrics of models whose answers are written down, and of popularity."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import by_hand, sessions
from tests.walks import make_dataset
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.evaluation.measure import measure, measure_masked
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.evaluation.ranking import Search, Trained, sample_users
from tiger_jax.interfaces import Recommendations
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds

# Twelve items; each shares its prefix with one other: 0 and 1, 2 and 3, ...
ROWS = np.arange(12)
CODES = np.stack([ROWS // 4, ROWS // 2 % 2, ROWS % 2], 1).astype(np.int32)

# User -> target, ranked items.
ANSWERS = {
  # The target is first.
  0: (3, [3, 2, 1, 0, 4, 5, 6, 7, 8, 9]),
  # The target is seventh; an item of its prefix is third.
  1: (4, [0, 1, 5, 3, 6, 7, 4, 8, 9, 10]),
  # Only an item of the target's prefix is there.
  2: (1, [4, 0, 2, 3, 5, 6, 7, 8, 9, 10]),
  # Neither is there.
  3: (8, [-1, 1, 2, 3, 4, 5, 6, 7, 0, 10]),
  # Nothing was found; -1 must not be read as the last item.
  4: (11, [-1] * 10),
  # The first item is a target too, and is not what fills an empty list.
  5: (0, [-1] * 10),
  # Only fills the batch up: nothing of it counts.
  -1: (-1, [-1, *range(9)]),
}
# How many of the first generated IDs are items, and no other.
NUM_GENERATED = {0: 20, 1: 5, 2: 0, 3: 9, 4: 10, 5: 0, -1: 0}
EXPECTED = {
  'recall@5': 1 / 6,
  'recall@10': 2 / 6,
  'ndcg@5': 1 / 6,
  'ndcg@10': (1 + 1 / math.log2(8)) / 6,
  'sid_recall@10': 3 / 6,
}
# Shares of invalid IDs: 0, 0.5, 1, 0.1, 0 and 1 of ten, and of twenty.
INVALID = {
  'invalid@10': 2.6 / 6,
  'invalid@20': (0 + 0.75 + 1 + 0.55 + 0.5 + 1) / 6,
}


class Scores:
  """Recommends the written answers."""

  def __init__(self, length=10):
    self.length = length

  def recommend(self, params, batch, k, lists=None):
    rows = [ANSWERS[user][1] for user in np.asarray(batch.user).tolist()]
    answers = jnp.asarray(rows, jnp.int32)[:, : self.length]
    # An entry that is marked invalid holds the target, and is no hit.
    valid = answers >= 0
    items = jnp.where(valid, answers, jnp.asarray(batch.target)[:, None])
    return Recommendations(items, 0.0 * items, valid)


class Generates(TigerRetriever):
  """Generates the written answers, followed by more than was asked for."""

  def __init__(self):
    self.asked = set()

  def search(self, params, batch, k, *, num_beams, constrained, lists, sampler):
    self.asked.add((k, num_beams, constrained))
    users = np.asarray(batch.user).tolist()
    if constrained:
      found = Scores().recommend(params, batch, k)
      target = np.asarray(batch.target)[:, None]
      items = np.concatenate([found.items, target, target], 1)
      valid = np.pad(found.valid, ((0, 0), (0, 2)), constant_values=True)
    else:
      count = np.array([[NUM_GENERATED[user]] for user in users])
      place = np.arange(22)
      valid = (place < count) | (place >= 20)
      items = np.full(valid.shape, 7)
    codes = np.zeros((*items.shape, 3), np.int32)
    proven = np.zeros(len(items), np.int32)
    return Beams(items, codes, 0.0 * items, valid, proven)


def session(name, retriever, batch_size=8):
  """Returns a session on users with histories of two lengths."""
  walks = [
    [*ROWS[: 2 + 2 * (user % 2)].tolist(), ANSWERS[user][0]]
    for user in range(6)
  ]
  dataset = make_dataset(walks, len(ROWS))
  semantic_ids = SemanticIds(CODES, (3, 2, 2), 2, {})
  config = from_json(
    {
      'model': {'name': name, 'max_history': 4},
      'train': {'length_buckets': [2, 4]},
      'evaluation': {'batch_size': batch_size},
    }
  )
  inputs = Inputs(dataset, None if name == 'popularity' else semantic_ids)
  one = make_mesh(jax.devices()[:1])
  run = Session(config, inputs, one)
  return sessions.with_parts(run, retriever=retriever)


def measured(*arguments, num_beams=30):
  run = session(*arguments)
  examples = split(run.inputs.dataset, 'test')
  return measure(Trained(run, {}), examples, Search(num_beams))


def test_by_hand():
  found = measured('vq_rec', Scores())
  assert found == pytest.approx(EXPECTED, abs=1e-12)


def test_without_ids_there_is_nothing_of_ids():
  found = measured('popularity', Scores())
  expected = {x: EXPECTED[x] for x in EXPECTED if 'sid' not in x}
  assert found == pytest.approx(expected, abs=1e-12)
  assert set(found) == set(RANKING)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 6])
def test_how_users_are_batched_changes_nothing(batch_size):
  retriever = Generates()
  found = measured('tiger', retriever, batch_size)
  assert found == pytest.approx(EXPECTED | INVALID, abs=1e-12)
  # Unconstrained searches are for the shares of invalid IDs alone.
  assert retriever.asked == {(10, 30, True), (20, 30, False)}


def test_the_search_has_the_beams_that_were_asked_for():
  retriever = Generates()
  measured('dsi', retriever, num_beams=64)
  assert {num_beams for _, num_beams, _ in retriever.asked} == {64}


def test_a_short_list_is_measured_as_it_is():
  found = measured('vq_rec', Scores(length=3))
  assert found['recall@10'] == pytest.approx(1 / 6)
  assert found['ndcg@10'] == pytest.approx(1 / 6)
  assert found['sid_recall@10'] == pytest.approx(3 / 6)


# Histories are longer than what the model reads, but not than what is left out.
POPULARITY = from_json(
  {
    'model': {'name': 'popularity', 'max_history': 3},
    'train': {'length_buckets': [2, 3]},
    'evaluation': {'batch_size': 64},
  }
)


@pytest.fixture(name='popularity', scope='module')
def _popularity():
  """A shop on which all metrics of popularity differ between splits."""
  dataset = synthetic.make(400, seed=0)
  validation, test, masked = (
    by_hand.popularity(dataset, split(dataset, name), masked)
    for name, masked in (
      ('validation', False), ('test', False), ('test', True)
    )
  )  # fmt: skip
  for name, value in test.items():
    assert len({value, validation[name], masked[name]}) == 3
  return Trained(Session.open(POPULARITY, Inputs(dataset)), {})


@pytest.mark.parametrize('num_users', [0, 50])
@pytest.mark.parametrize('masked', [False, True])
def test_popularity_user_by_user(popularity, masked, num_users):
  dataset = popularity.session.inputs.dataset
  examples = sample_users(split(dataset, 'test'), num_users, seed=1)
  function = measure_masked if masked else measure
  found = function(popularity, examples, Search())
  expected = by_hand.popularity(dataset, examples, masked)
  assert found == pytest.approx(expected)
  assert len(examples.user) == (num_users or 400)


def test_progress_is_shown_under_a_label(popularity, capsys):
  examples = split(popularity.session.inputs.dataset, 'test')
  measure(popularity, examples, Search(), label='test')
  err = capsys.readouterr().err
  assert 'test' in err and '400/400' in err
  measure(popularity, examples, Search())
  assert capsys.readouterr().err == ''
