"""Tests of metrics, on models with fixed answers and on popularity."""

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
from tiger_jax.evaluation.measure import (
  measure,
  measure_masked,
)
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.evaluation.ranking import Search, Trained, sample_users
from tiger_jax.interfaces import Recommendations
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds

# Twelve items. Pairs of items share a prefix: 0 and 1, 2 and 3, and so on.
ROWS = np.arange(12)
CODES = np.stack([ROWS // 4, ROWS // 2 % 2, ROWS % 2], 1).astype(np.int32)

# The target and the ranked items of each user.
ANSWERS = {
  # The target is first.
  0: (3, [3, 2, 1, 0, 4, 5, 6, 7, 8, 9]),
  # The target is seventh; an item with its prefix is third.
  1: (4, [0, 1, 5, 3, 6, 7, 4, 8, 9, 10]),
  # The list has an item with the prefix of the target, but not the target.
  2: (1, [4, 0, 2, 3, 5, 6, 7, 8, 9, 10]),
  # The list has neither the target nor an item with its prefix.
  3: (8, [-1, 1, 2, 3, 4, 5, 6, 7, 0, 10]),
  # An empty list. As an index, -1 would select the last item, the target.
  4: (11, [-1] * 10),
  # An empty list. Its padding must not count as item 0, which is the target.
  5: (0, [-1] * 10),
  # A padding row, which must not count.
  -1: (-1, [-1, *range(9)]),
}
# The number of valid IDs at the beginning of each list of generated IDs.
NUM_GENERATED = {0: 20, 1: 5, 2: 0, 3: 9, 4: 10, 5: 0, -1: 0}
EXPECTED = {
  'recall@5': 1 / 6,
  'recall@10': 2 / 6,
  'ndcg@5': 1 / 6,
  'ndcg@10': (1 + 1 / math.log2(8)) / 6,
  'sid_recall@10': 3 / 6,
}
# The share of invalid IDs among the first 10 and the first 20 generated IDs, as
# a mean over six users.
INVALID = {
  'invalid@10': 2.6 / 6,
  'invalid@20': (0 + 0.75 + 1 + 0.55 + 0.5 + 1) / 6,
}


class Scores:
  """A retriever that recommends the fixed answers."""

  def __init__(self, length=10):
    self.length = length

  def recommend(self, params, batch, k, lists=None):
    rows = [ANSWERS[user][1] for user in np.asarray(batch.user).tolist()]
    answers = jnp.asarray(rows, jnp.int32)[:, : self.length]
    # Invalid entries hold the target, which must not count as a hit.
    valid = answers >= 0
    items = jnp.where(valid, answers, jnp.asarray(batch.target)[:, None])
    return Recommendations(items, 0.0 * items, valid)


class Generates(TigerRetriever):
  """Returns the fixed answers, and two items more than requested."""

  def __init__(self):
    self.calls = set()

  def search(self, params, batch, k, *, num_beams, constrained, lists, sampler):
    self.calls.add((k, num_beams, constrained))
    users = np.asarray(batch.user).tolist()
    if constrained:
      answers = Scores().recommend(params, batch, k)
      target = np.asarray(batch.target)[:, None]
      items = np.concatenate([answers.items, target, target], 1)
      valid = np.pad(answers.valid, ((0, 0), (0, 2)), constant_values=True)
    else:
      num_valid = np.array([[NUM_GENERATED[user]] for user in users])
      position = np.arange(22)
      valid = (position < num_valid) | (position >= 20)
      items = np.full(valid.shape, 7)
    codes = np.zeros((*items.shape, 3), np.int32)
    proven = np.zeros(len(items), np.int32)
    return Beams(items, codes, 0.0 * items, valid, proven)


def session(name, retriever, batch_size=8, **model):
  """Returns a session whose users have histories of two lengths."""
  walks = [
    [*ROWS[: 2 + 2 * (user % 2)].tolist(), ANSWERS[user][0]]
    for user in range(6)
  ]
  dataset = make_dataset(walks, len(ROWS))
  semantic_ids = SemanticIds(CODES, (3, 2, 2), 2, {})
  config = from_json(
    {
      'model': {'name': name, 'max_history': 4, **model},
      'train': {'length_buckets': [2, 4]},
      'evaluation': {'batch_size': batch_size},
    }
  )
  inputs = Inputs(dataset, None if name == 'popularity' else semantic_ids)
  run = Session(config, inputs, make_mesh(jax.devices()[:1]))
  return sessions.with_parts(run, retriever=retriever)


def measured(*arguments, num_beams=30, **model):
  run = session(*arguments, **model)
  examples = split(run.inputs.dataset, 'test')
  return measure(Trained(run, {}), examples, Search(num_beams))[0]


def test_metrics_equal_values_worked_by_hand():
  metrics = measured('vq_rec', Scores())
  assert metrics == pytest.approx(EXPECTED, abs=1e-12)


def test_models_without_ids_have_no_sid_recall():
  metrics = measured('popularity', Scores())
  expected = {x: EXPECTED[x] for x in EXPECTED if 'sid' not in x}
  assert metrics == pytest.approx(expected, abs=1e-12)
  assert set(metrics) == set(RANKING)


@pytest.mark.parametrize('batch_size', [1, 2, 3, 6])
def test_metrics_do_not_depend_on_the_batch_size(batch_size):
  retriever = Generates()
  metrics = measured('tiger', retriever, batch_size)
  assert metrics == pytest.approx(EXPECTED | INVALID, abs=1e-12)
  # Only the shares of invalid IDs need the unconstrained search.
  assert retriever.calls == {(10, 30, True), (20, 30, False)}


def test_a_model_with_a_trie_softmax_has_no_invalid_ids():
  retriever = Generates()
  metrics = measured('tiger', retriever, softmax='trie')
  assert metrics == pytest.approx(EXPECTED, abs=1e-12)
  assert retriever.calls == {(10, 30, True)}


def test_the_search_has_the_requested_number_of_beams():
  retriever = Generates()
  measured('dsi', retriever, num_beams=64)
  assert {num_beams for _, num_beams, _ in retriever.calls} == {64}


def test_lists_shorter_than_the_cutoff_have_metrics():
  metrics = measured('vq_rec', Scores(length=3))
  assert metrics['recall@10'] == pytest.approx(1 / 6)
  assert metrics['ndcg@10'] == pytest.approx(1 / 6)
  assert metrics['sid_recall@10'] == pytest.approx(3 / 6)


# Histories are longer than `max_history`. A masked search excludes all items of
# a history, not only the latest `max_history` items.
POPULARITY = from_json(
  {
    'model': {'name': 'popularity', 'max_history': 3},
    'train': {'length_buckets': [2, 3]},
    'evaluation': {'batch_size': 64},
  }
)


@pytest.fixture(name='popularity', scope='module')
def _popularity():
  """Returns a popularity model. Its metrics differ by split and by masking."""
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
def test_metrics_of_popularity_equal_a_loop_over_users(
  popularity, masked, num_users
):
  dataset = popularity.session.inputs.dataset
  examples = sample_users(split(dataset, 'test'), num_users, seed=1)
  function = measure_masked if masked else measure
  metrics, _ = function(popularity, examples, Search())
  expected = by_hand.popularity(dataset, examples, masked)
  assert metrics == pytest.approx(expected)
  assert len(examples.user) == (num_users or 400)


def test_a_progress_line_is_shown_only_with_a_label(popularity, capsys):
  examples = split(popularity.session.inputs.dataset, 'test')
  measure(popularity, examples, Search(), label='test')
  err = capsys.readouterr().err
  assert 'test' in err and '400/400' in err
  measure(popularity, examples, Search())
  assert capsys.readouterr().err == ''
