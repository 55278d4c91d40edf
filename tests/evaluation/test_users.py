"""Tests the saved results of users against values worked by hand."""

import numpy as np
import pytest

from tests.walks import make_dataset
from tiger_jax.errors import DataError
from tiger_jax.evaluation import metrics, users
from tiger_jax.evaluation.ranking import Ranking

# The held-out items are 3, 1 and 2.
DATASET = make_dataset([[0, 1, 3], [2, 0, 1], [1, 3, 0, 2]], 5)


def ranking(lists):
  items = np.array(lists, np.int32)
  user = np.arange(3, dtype=np.int32)
  target = np.array([3, 1, 2], np.int32)
  return Ranking(user, target, items, 0.0 * items, user)


def results():
  first = ranking([[3, 1, 0], [4, 0, 2], [0, 1, 2]])
  second = ranking([[0, 3, -1], [1, 0, 2], [-1, -1, -1]])
  masked = ranking([[4, 3, 1], [1, 2, 3], [4, 0, 1]])
  popular = ranking([[1, 0, 3], [1, 0, 3], [1, 0, 3]])
  counts = ranking([[4, 3, 0], [0, 2, 3], [2, 1, 0]])
  return users.UserResults.of(
    [first, second], [masked, masked], popular, counts
  )


def test_ranks_equal_values_worked_by_hand():
  r = results()
  assert r.user.tolist() == [0, 1, 2]
  assert r.target.tolist() == [3, 1, 2]
  assert r.rank.tolist() == [[1, 0, 3], [2, 1, 0]]
  assert r.rank_masked.tolist() == [[2, 1, 0]] * 2
  assert r.rank_popularity.tolist() == [3, 1, 0]
  assert r.rank_transitions.tolist() == [2, 0, 1]
  assert r.items[1].tolist() == [[0, 3, -1], [1, 0, 2], [-1, -1, -1]]
  np.testing.assert_array_equal(DATASET.history[r.ends(DATASET)], r.target)


def test_metrics_of_ranks_equal_metrics_of_hits():
  rng = np.random.default_rng(0)
  hits = np.zeros((60, 12), bool)
  hits[np.arange(60), rng.integers(12, size=60)] = rng.random(60) < 0.7
  rank = users.ranks(hits)
  assert rank.max() == 10
  np.testing.assert_array_equal(users.hits_of(rank), hits[:, :10])
  for k in (5, 10):
    for metric in (metrics.recall, metrics.ndcg):
      np.testing.assert_array_equal(
        metric(users.hits_of(rank), k), metric(hits, k)
      )


def test_saved_results_are_read_back(tmp_path):
  results().save(tmp_path)
  loaded = users.UserResults.load(tmp_path, DATASET, 'evaluate again')
  for name, array in vars(results()).items():
    np.testing.assert_array_equal(getattr(loaded, name), array)


def test_an_evaluation_of_an_older_version_has_no_user_results(tmp_path):
  assert users.UserResults.load(tmp_path, DATASET, 'evaluate again') is None


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('user', [0, 2, 1]),
    ('user', [0, 1, 3]),
    ('target', [3, 1, 1]),
    ('items', [[[0], [5], [0]]] * 2),
    ('rank', [[1, 0, 11], [0, 0, 0]]),
    ('rank', [[1, 0], [0, 0]]),
    ('rank', [[1.0, 0, 0], [0, 0, 0]]),
  ],
)
def test_results_that_do_not_fit_the_dataset_are_refused_in_one_line(
  tmp_path, field, value
):
  r = results()
  object.__setattr__(r, field, np.array(value))
  r.save(tmp_path)
  with pytest.raises(DataError, match='is damaged .*evaluate again') as error:
    users.UserResults.load(tmp_path, DATASET, 'evaluate again')
  assert '\n' not in str(error.value)
