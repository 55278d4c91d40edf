"""What experiments measure, worked out by hand or by a slower way."""

import numpy as np
import pytest

from tests.walks import make_dataset
from tiger_jax.data.splits import split
from tiger_jax.evaluation.entropy import entropy
from tiger_jax.evaluation.groups import groups
from tiger_jax.evaluation.ranking import Ranking
from tiger_jax.experiments import cold_start, ensemble

RNG = np.random.default_rng(0)


def test_unseen_items_follow_the_first_of_their_prefix():
  # Items 0, 1 and 4 share a prefix, 2 and 5 do; 4, 5 and 6 are unseen.
  prefixes = np.array([[1], [1], [2], [3], [1], [2], [9]])
  items = np.array([[3, 1, 0], [2, -1, -1], [0, 2, 1]], np.int32)
  found = cold_start.with_unseen(items, np.array([4, 5, 6]), prefixes)
  assert found.tolist() == [
    [3, 1, 4, 0, -1],
    [2, 5, -1, -1, -1],
    [0, 4, 2, 5, 1],
  ]


def test_at_most_a_share_is_unseen():
  is_unseen = np.arange(20) >= 10
  items = np.array([[10, 11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1]], np.int32)
  found = cold_start.capped(items, is_unseen, 10, 0.1)
  assert found.tolist() == [[10, 0, 1, 2, 3, 4, 5, 6, 7, 8]]
  found = cold_start.capped(items, is_unseen, 10, 0.3)
  assert found.tolist() == [[10, 11, 0, 12, 1, 2, 3, 4, 5, 6]]
  found = cold_start.capped(items, is_unseen, 5, 0.1)
  assert found.tolist() == [[0, 1, 2, 3, 4]]


def test_a_short_list_is_filled_up():
  found = cold_start.capped(
    np.array([[1, -1, 0]], np.int32), np.zeros(4, bool), 5, 0.1
  )
  assert found.tolist() == [[1, 0, -1, -1, -1]]


@pytest.mark.parametrize('epsilon', [0.1, 0.2, 0.3])
def test_three_tenths_of_ten_are_three(epsilon):
  items = np.arange(20, dtype=np.int32)[None]
  found = cold_start.capped(items, np.ones(20, bool), 10, epsilon)
  assert (found >= 0).sum() == round(10 * epsilon)


def test_entropy_by_hand():
  categories = ['a', 'a', 'b', 'c']
  items = np.array([[0, 1, -1, -1], [0, 2, -1, -1], [0, 1, 2, 3]], np.int32)
  found = entropy(items, categories)
  expected = [0, np.log(2), 0.5 * np.log(2) + 0.5 * np.log(4)]
  np.testing.assert_allclose(found, expected)


def _dataset(walks):
  return make_dataset(walks, max(map(max, walks)) + 1)


def test_groups_by_hand():
  dataset = _dataset([
    [0, 1, 2, 3],  # 0 -> 1 is of training; the test is 2 -> 3.
    [2, 3, 0, 1],  # 2 -> 3 is of training; the test is 0 -> 1.
    [4, 5, 6, 5],  # The test is 6 -> 5, which nobody did in training.
    [*range(12), 1],  # Its training is 0 -> 1 -> ... -> 10.
  ])  # fmt: skip
  found = groups(dataset, split(dataset, 'test'))
  assert found['memorisation'].tolist() == [True, True, False, False]
  assert found['generalisation'].tolist() == [False, False, True, True]
  assert found['history of up to 5'].tolist() == [True, True, True, False]
  assert found['history of over 10'].tolist() == [False, False, False, True]
  # Item 3 comes twice in training, the others once or twice.
  assert found['bought up to 5 times'].all()
  assert found['all'].all()


def test_an_item_after_another_users_is_not_after_it():
  dataset = _dataset([[0, 1, 5, 5], [2, 3, 1, 2]])
  found = groups(dataset, split(dataset, 'test'))
  # 1 -> 2 are neighbours in the array, but of two users.
  assert not found['memorisation'][1]


def _rankings(num_users=30, k=8, num_items=12):
  def one():
    items = np.stack([RNG.permutation(num_items)[:k] for _ in range(num_users)])
    items[:, -1] = np.where(RNG.random(num_users) < 0.3, -1, items[:, -1])
    scores = -np.sort(-RNG.normal(size=(num_users, k)), axis=1)
    user = np.arange(num_users)
    return Ranking(user, user % num_items, items, scores, user)

  return one(), one()


@pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
def test_a_sum_of_rankings_item_by_item(weight):
  pair = _rankings()
  found = ensemble.combined(ensemble.merge(*pair), weight)
  for user in range(30):
    total = {}
    for ranking, share in zip(pair, (weight, 1 - weight), strict=True):
      listed = ranking.items[user] >= 0
      scores = ranking.scores[user][listed]
      scores = (scores - scores.min()) / (scores.max() - scores.min())
      for item, score in zip(
        ranking.items[user][listed].tolist(), scores, strict=True
      ):
        total[item] = total.get(item, 0) + share * score
    # Of what is worth the same, the smaller row comes first.
    order = sorted(total, key=lambda x: (-round(total[x], 12), x))
    assert [x for x in found[user].tolist() if x >= 0] == order[:10]


def test_a_list_of_nothing_has_no_say():
  one, other = _rankings()
  nothing = one._replace(items=np.full_like(one.items, -1))
  assert (ensemble.scaled(nothing) == 0).all()
  assert (ensemble.surest(nothing) == 0).all()
  found = ensemble.combined(ensemble.merge(nothing, other), 0.5)
  assert found.shape == (30, 10)
  for row, expected in zip(found.tolist(), other.items.tolist(), strict=True):
    kept = [x for x in expected if x >= 0]
    assert row == kept + [-1] * (10 - len(kept))


def test_how_sure_a_model_is():
  items = np.array([[3, 1, 2], [4, 0, -1], [5, -1, -1]])
  scores = np.log([[0.5, 0.3, 0.2], [0.6, 0.2, 9.0], [0.1, 1.0, 1.0]])
  user = np.arange(3)
  found = ensemble.surest(Ranking(user, user, items, scores, user))
  np.testing.assert_allclose(found[:, 0], [0.5, 0.75, 1])


def test_a_single_item_counts_in_full():
  user = np.arange(1)
  one = Ranking(user, user, np.array([[7, -1]]), np.zeros((1, 2)), user)
  assert ensemble.scaled(one).tolist() == [[1, 0]]


def test_the_share_of_listed_items_that_is_proven():
  # In a list of one item, at most one is proven.
  items = np.array([[1, 2, 3], [4, -1, -1], [-1, -1, -1]])
  user = np.arange(3)
  ranking = Ranking(user, user, items, 0.0 * items, np.array([2, 3, 0]))
  assert ranking.proven == 3 / 4
  assert ranking.of(user == 1).proven == 1
  assert ranking.of(user == 0).items.tolist() == [[1, 2, 3]]


def test_which_items_share_a_prefix():
  # Item 3 shares its prefix with item 0; item 4 only with item 5, also unseen.
  prefixes = np.array([[1, 1], [1, 2], [2, 1], [1, 1], [3, 1], [3, 1]])
  found = cold_start.shared_prefixes(np.arange(6) >= 3, prefixes)
  assert found.tolist() == [True, False, False, True, False, False]


def test_items_of_a_user_are_removed_from_a_list():
  items = np.array([[3, 1, 4, 0, -1], [2, 5, -1, -1, -1]])
  owned = [np.array([0, 1]), np.array([], int)]
  assert cold_start.without(items, owned).tolist() == [
    [3, -1, 4, -1, -1], [2, 5, -1, -1, -1],
  ]  # fmt: skip
