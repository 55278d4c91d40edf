"""Compares the measures of experiments to loops and values worked by hand."""

import numpy as np
import pytest

from tests.walks import make_dataset
from tiger_jax.data.splits import split
from tiger_jax.evaluation.entropy import entropy
from tiger_jax.evaluation.groups import groups
from tiger_jax.evaluation.ranking import Ranking
from tiger_jax.experiments import cold_start, ensemble

RNG = np.random.default_rng(0)


def test_unseen_items_follow_the_first_item_with_their_prefix():
  # Items 0, 1 and 4 share a prefix, and so do 2 and 5. Items 4, 5 and 6 are
  # unseen.
  prefixes = np.array([[1], [1], [2], [3], [1], [2], [9]])
  items = np.array([[3, 1, 0], [2, -1, -1], [0, 2, 1]], np.int32)
  result = cold_start.with_unseen(items, np.array([4, 5, 6]), prefixes)
  assert result.tolist() == [
    [3, 1, 4, 0, -1],
    [2, 5, -1, -1, -1],
    [0, 4, 2, 5, 1],
  ]


def test_unseen_items_above_the_maximum_share_are_skipped():
  is_unseen = np.arange(20) >= 10
  items = np.array([[10, 11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1]], np.int32)
  result = cold_start.capped(items, is_unseen, 10, 0.1)
  assert result.tolist() == [[10, 0, 1, 2, 3, 4, 5, 6, 7, 8]]
  result = cold_start.capped(items, is_unseen, 10, 0.3)
  assert result.tolist() == [[10, 11, 0, 12, 1, 2, 3, 4, 5, 6]]
  result = cold_start.capped(items, is_unseen, 5, 0.1)
  assert result.tolist() == [[0, 1, 2, 3, 4]]


def test_a_short_list_is_padded():
  result = cold_start.capped(
    np.array([[1, -1, 0]], np.int32), np.zeros(4, bool), 5, 0.1
  )
  assert result.tolist() == [[1, 0, -1, -1, -1]]


@pytest.mark.parametrize('epsilon', [0.1, 0.2, 0.3])
def test_rounding_errors_do_not_change_the_number_of_unseen_items(epsilon):
  items = np.arange(20, dtype=np.int32)[None]
  result = cold_start.capped(items, np.ones(20, bool), 10, epsilon)
  assert (result >= 0).sum() == round(10 * epsilon)


def test_entropy_equals_values_worked_by_hand():
  categories = ['a', 'a', 'b', 'c']
  items = np.array([[0, 1, -1, -1], [0, 2, -1, -1], [0, 1, 2, 3]], np.int32)
  result = entropy(items, categories)
  expected = [0, np.log(2), 0.5 * np.log(2) + 0.5 * np.log(4)]
  np.testing.assert_allclose(result, expected)


def _dataset(walks):
  return make_dataset(walks, max(map(max, walks)) + 1)


def test_groups_equal_values_worked_by_hand():
  dataset = _dataset([
    [0, 1, 2, 3],  # Training has 0 -> 1; the test is 2 -> 3.
    [2, 3, 0, 1],  # Training has 2 -> 3; the test is 0 -> 1.
    [4, 5, 6, 5],  # Training has 4 -> 5; the test is 6 -> 5.
    [*range(12), 1],  # Training has 0 -> 1 -> ... -> 10; the test is 11 -> 1.
  ])  # fmt: skip
  result = groups(dataset, split(dataset, 'test'))
  assert result['memorization'].tolist() == [True, True, False, False]
  assert result['generalization'].tolist() == [False, False, True, True]
  assert result['history of up to 5'].tolist() == [True, True, True, False]
  assert result['history of over 10'].tolist() == [False, False, False, True]
  # Each target occurs twice in training.
  assert result['bought up to 5 times'].all()
  assert result['all'].all()


def test_transitions_are_within_one_user():
  dataset = _dataset([[0, 1, 5, 5], [2, 3, 1, 2]])
  result = groups(dataset, split(dataset, 'test'))
  # Items 1 and 2 are adjacent in the array of all training items, but belong to
  # different users.
  assert not result['memorization'][1]


def _two_rankings(num_users=30, k=8, num_items=12):
  def ranking():
    items = np.stack([RNG.permutation(num_items)[:k] for _ in range(num_users)])
    items[:, -1] = np.where(RNG.random(num_users) < 0.3, -1, items[:, -1])
    scores = -np.sort(-RNG.normal(size=(num_users, k)), axis=1)
    user = np.arange(num_users)
    return Ranking(user, user % num_items, items, scores, user)

  return ranking(), ranking()


@pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
def test_the_weighted_sum_of_two_rankings_equals_a_loop_over_items(weight):
  pair = _two_rankings()
  result = ensemble.combined(ensemble.merge(*pair), weight)
  for user in range(30):
    total = {}
    for ranking, factor in zip(pair, (weight, 1 - weight), strict=True):
      listed = ranking.items[user] >= 0
      scores = ranking.scores[user][listed]
      scores = (scores - scores.min()) / (scores.max() - scores.min())
      for item, score in zip(
        ranking.items[user][listed].tolist(), scores, strict=True
      ):
        total[item] = total.get(item, 0) + factor * score
    # Items with equal sums are in the order of their rows.
    order = sorted(total, key=lambda x: (-round(total[x], 12), x))
    assert [x for x in result[user].tolist() if x >= 0] == order[:10]


def test_an_empty_list_does_not_change_the_other_list():
  first, other = _two_rankings()
  empty = first._replace(items=np.full_like(first.items, -1))
  assert (ensemble.scaled(empty) == 0).all()
  assert (ensemble.confidence(empty) == 0).all()
  result = ensemble.combined(ensemble.merge(empty, other), 0.5)
  assert result.shape == (30, 10)
  for row, expected in zip(result.tolist(), other.items.tolist(), strict=True):
    kept = [x for x in expected if x >= 0]
    assert row == kept + [-1] * (10 - len(kept))


def test_confidence_equals_values_worked_by_hand():
  items = np.array([[3, 1, 2], [4, 0, -1], [5, -1, -1]])
  scores = np.log([[0.5, 0.3, 0.2], [0.6, 0.2, 9.0], [0.1, 1.0, 1.0]])
  user = np.arange(3)
  result = ensemble.confidence(Ranking(user, user, items, scores, user))
  np.testing.assert_allclose(result[:, 0], [0.5, 0.75, 1])


def test_a_single_item_has_the_score_1():
  user = np.arange(1)
  ranking = Ranking(user, user, np.array([[7, -1]]), np.zeros((1, 2)), user)
  assert ensemble.scaled(ranking).tolist() == [[1, 0]]


def test_the_property_proven_is_the_share_of_proven_items():
  # The second list has one item, so at most one counts as proven.
  items = np.array([[1, 2, 3], [4, -1, -1], [-1, -1, -1]])
  user = np.arange(3)
  ranking = Ranking(user, user, items, 0.0 * items, np.array([2, 3, 0]))
  assert ranking.proven == 3 / 4
  assert ranking.select(user == 1).proven == 1
  assert ranking.select(user == 0).items.tolist() == [[1, 2, 3]]


def test_seen_and_unseen_items_that_share_a_prefix_are_found():
  # Item 3 shares its prefix with item 0, which is seen. Item 4 shares its
  # prefix only with item 5, which is also unseen.
  prefixes = np.array([[1, 1], [1, 2], [2, 1], [1, 1], [3, 1], [3, 1]])
  result = cold_start.shared_prefixes(np.arange(6) >= 3, prefixes)
  assert result.tolist() == [True, False, False, True, False, False]


def test_history_items_are_removed_from_a_list():
  items = np.array([[3, 1, 4, 0, -1], [2, 5, -1, -1, -1]])
  user_items = [np.array([0, 1]), np.array([], int)]
  assert cold_start.without(items, user_items).tolist() == [
    [3, -1, 4, -1, -1], [2, 5, -1, -1, -1],
  ]  # fmt: skip
