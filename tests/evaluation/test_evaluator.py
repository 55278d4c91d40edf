"""The evaluator on a retriever whose answers are written down."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.evaluation.evaluator import evaluate
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.interfaces import Batch, Recommendations

# Twelve items; each shares its prefix with one other: 0 and 1, 2 and 3, ...
PREFIXES = np.stack([np.arange(12) // 4, np.arange(12) // 2 % 2], 1)

# User -> target, ranked items, which of them are valid.
ALL = [True] * 10
ANSWERS = [
  # The target is first.
  (3, [3, 2, 1, 0, 4, 5, 6, 7, 8, 9], ALL),
  # The target is seventh; an item of its prefix is third.
  (4, [0, 1, 5, 3, 6, 7, 4, 8, 9, 10], ALL),
  # Only an item of the target's prefix is there.
  (1, [4, 0, 2, 3, 5, 6, 7, 8, 9, 10], ALL),
  # The target is there, but marked invalid; its prefix has no other.
  (8, [8, 1, 2, 3, 4, 5, 6, 7, 0, 10], [False] + ALL[1:]),
  # Nothing was found; -1 must not be read as the last item.
  (11, [-1] * 10, [False] * 10),
  # Only fills the batch up: nothing of it counts.
  (-1, [-1] + list(range(9)), ALL),
  # The first item is a target too, and is not what fills an empty list.
  (0, [-1] * 10, [False] * 10),
]
# How many of the first generated IDs are items, and no other.
NUM_GENERATED = [20, 5, 0, 9, 10, 0, 0]
EXPECTED = {
  'recall@5': 1 / 6,
  'recall@10': 2 / 6,
  'ndcg@5': 1 / 6,
  'ndcg@10': (1 + 1 / math.log2(8)) / 6,
  'sid_recall@10': 3 / 6,
}


def _recommend(batch, k):
  rows = [ANSWERS[user] for user in batch.user]
  return Recommendations(
    jnp.asarray([items[:k] for _, items, _ in rows], jnp.int32),
    jnp.tile(-jnp.arange(10.0)[None, :k], (len(rows), 1)),
    jnp.asarray([valid[:k] for *_, valid in rows]),
  )


def _generated_validity(batch, k):
  return jnp.asarray(
    [[rank < NUM_GENERATED[user] for rank in range(k)] for user in batch.user]
  )


def _batches(*groups):
  for users in groups:
    yield Batch(
      np.zeros((len(users), 2), np.int32),
      np.array(users, np.int32),
      np.array([ANSWERS[user][0] for user in users], np.int32),
    )


def test_by_hand():
  found = evaluate(_recommend, _batches(range(7)), PREFIXES)
  assert found == pytest.approx(EXPECTED, abs=1e-12)


def test_without_ids_there_is_nothing_of_ids():
  found = evaluate(_recommend, _batches(range(7)))
  expected = {x: EXPECTED[x] for x in EXPECTED if 'sid' not in x}
  assert found == pytest.approx(expected, abs=1e-12)
  assert set(found) == set(RANKING)


@pytest.mark.parametrize(
  'groups',
  [
    ([0], [1], [2], [3], [4], [5], [6]),
    ([6, 5, 4, 3], [2, 1, 0]),
    ([0, 1, 2, 3], [4, 6, 5, 5]),
    ([5, 5], [0, 1, 2, 3, 4, 6]),
  ],
)
def test_how_users_are_batched_changes_nothing(groups):
  found = evaluate(_recommend, _batches(*groups), PREFIXES, _generated_validity)
  # Shares of invalid IDs: 0, 0.5, 1, 0.1, 0 and 1 of ten, and of twenty.
  expected = EXPECTED | {
    'invalid@10': 2.6 / 6,
    'invalid@20': (0 + 0.75 + 1 + 0.55 + 0.5 + 1) / 6,
  }
  assert found == pytest.approx(expected, abs=1e-12)


def test_a_short_list_is_measured_as_it_is():
  def recommend_three(batch, k):
    return Recommendations(*(x[:, :3] for x in _recommend(batch, k)))

  found = evaluate(recommend_three, _batches(range(5)), PREFIXES)
  assert found['recall@10'] == pytest.approx(1 / 5)
  assert found['ndcg@10'] == pytest.approx(1 / 5)
  assert found['sid_recall@10'] == pytest.approx(3 / 5)
