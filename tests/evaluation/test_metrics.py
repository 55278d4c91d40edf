"""Compares metrics to values worked by hand and to scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from tiger_jax.evaluation.metrics import (
  invalid_shares,
  ndcg,
  prefix_hits,
  ranking_metrics,
  recall,
)

# The target ranks first, second, third and seventh in the first four lists. The
# last list lacks the target.
HITS = np.zeros((5, 8), bool)
HITS[[0, 1, 2, 3], [0, 1, 2, 6]] = True


@pytest.mark.parametrize(
  ('k', 'expected'),
  [
    (1, [1, 0, 0, 0, 0]),
    (2, [1, 1, 0, 0, 0]),
    (6, [1, 1, 1, 0, 0]),
    (7, [1, 1, 1, 1, 0]),
    (50, [1, 1, 1, 1, 0]),
  ],
)
def test_recall_equals_values_worked_by_hand(k, expected):
  np.testing.assert_array_equal(recall(HITS, k), expected)


@pytest.mark.parametrize(
  ('k', 'expected'),
  [
    (1, [1, 0, 0, 0, 0]),
    (2, [1, 0.6309297535714574, 0, 0, 0]),
    (6, [1, 0.6309297535714574, 0.5, 0, 0]),
    (8, [1, 0.6309297535714574, 0.5, 1 / 3, 0]),
  ],
)
def test_ndcg_equals_values_worked_by_hand(k, expected):
  np.testing.assert_allclose(ndcg(HITS, k), expected, rtol=1e-12)


@pytest.mark.parametrize('k', [1, 5, 10, 20])
def test_ndcg_equals_scikit_learn(k):
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(40, 20))
  target = rng.integers(0, 20, 40)
  relevant = np.arange(20)[None] == target[:, None]
  hits = np.argsort(-scores, axis=1) == target[:, None]
  expected = ndcg_score(relevant, scores, k=k)
  np.testing.assert_allclose(ndcg(hits, k).mean(), expected, rtol=1e-12)


def test_means_of_all_metrics_equal_values_worked_by_hand():
  hits = np.zeros((3, 10), bool)
  hits[0, 0] = hits[1, 6] = True
  result = ranking_metrics(hits)
  assert result == pytest.approx({
    'recall@5': 1 / 3, 'recall@10': 2 / 3, 'ndcg@5': 1 / 3,
    'ndcg@10': (1 + 1 / 3) / 3,
  })  # fmt: skip
  assert set(ranking_metrics(hits[:0]).values()) == {0.0}
  assert set(ranking_metrics(hits[:1]).values()) == {1.0}


def test_prefix_hits_equal_values_worked_by_hand():
  prefixes = np.array([[1, 2], [1, 3], [1, 2], [2, 2]])
  # Only item 3 has the prefix of the second target. The entry -1 must not be
  # read as an index, because it would select item 3, the last item.
  items = np.array([[2, 1, -1, 0], [-1, 0, 1, 2]])
  result = prefix_hits(items, np.array([0, 3]), prefixes)
  assert result.tolist() == [[True, False, False, True], [False] * 4]


def test_invalid_shares_equal_values_worked_by_hand():
  generated = np.zeros((2, 25), int)
  generated[0, [0, 9, 10, 19, 20]] = -1
  generated[1, :] = -1
  result = invalid_shares(generated)
  assert result == {
    'invalid@10': (0.2 + 1) / 2, 'invalid@20': (0.2 + 1) / 2,
  }  # fmt: skip
  generated[0, 11:15] = -1
  assert invalid_shares(generated)['invalid@20'] == (0.4 + 1) / 2
