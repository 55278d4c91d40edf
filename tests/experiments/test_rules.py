"""What experiments ask of models, whose answers are fixed."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config_dict import from_json
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.decoding.retriever import TigerRetriever
from tiger_jax.errors import UsageError
from tiger_jax.experiments import breakdown, cold_start, diversity, ensemble
from tiger_jax.experiments.ranking import Ranking, Trained
from tiger_jax.recommenders import Material
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.shapes import Recommendations

# Users, oldest item first: the last is the test, the one before validation.
WALKS = ([0, 1, 2, 4], [1, 2, 3, 4], [2, 3, 0, 5], [3, 0, 1, 5])
# Item 4 shares its meaning with item 1; item 5 with none.
CODES = np.array(
  [[0, 0, 0], [1, 1, 0], [2, 0, 0], [3, 0, 0], [1, 1, 1], [2, 2, 0]], np.int32
)
VECTORS = np.array(
  [[0, 1], [1, 0], [1, 0], [0.5, 0.5], [1, 0.2], [0.1, 1]], np.float32
)


class Answers(TigerRetriever):
  """Answers the same items to all, in one order, and notes what was asked."""

  def __init__(self, order, scores=None, unseen_left_out=()):
    self.order = [x for x in order if x not in unseen_left_out]
    self.given = scores
    self.removed = []
    self.asked = []

  def remove(self, rows):
    self.removed.append(np.asarray(rows).tolist())
    return Answers(self.order, self.given, np.asarray(rows).tolist())

  def recommend(self, params, batch, k, lists=None):
    rows = []
    for row in range(len(batch.user)):
      denied = set() if lists is None else set(lists.rows[row].tolist())
      rows.append([x for x in self.order if x not in denied])
    self.asked.append((k, lists is not None))
    items = np.full((len(rows), k), -1, np.int32)
    for row, found in zip(items, rows, strict=True):
      row[: len(found[:k])] = found[:k]
    scores = np.broadcast_to(-np.arange(k, dtype=np.float32), items.shape)
    if self.given is not None:
      scores = np.broadcast_to(self.given[:k], items.shape)
    return Recommendations(*map(jnp.asarray, (items, scores, items >= 0)))


def trained(retriever, walks=WALKS, categories=None, unseen=()):
  num = len(CODES)
  fields = {
    name: ('',) * num for name in ('title', 'price', 'brand', 'description')
  }
  fields['categories'] = categories or ('',) * num
  offsets = np.cumsum([0, *map(len, walks)])
  dataset = Dataset(
    'shop',
    Items(tuple(map(str, range(num))), fields),
    tuple(map(str, range(len(walks)))),
    np.concatenate(walks).astype(np.int32),
    offsets,
    unseen=np.array(unseen, np.int32),
  )
  config = from_json(
    {
      'model': {'max_history': 4},
      'train': {'length_buckets': (4,)},
      'evaluation': {'batch_size': 8, 'num_users': 0},
    }
  )
  ids = SemanticIds(CODES, (4, 3, 2), 2, {})
  return Trained(config, Material(dataset, ids, VECTORS), retriever, {})


def test_rules_for_unseen_items():
  retriever = Answers([5, 4, 0, 1, 2, 3])
  found = cold_start.measure(trained(retriever, unseen=(4, 5)))
  assert retriever.removed == [[4, 5]]
  # One of ten may be unseen, then two: item 5 comes before item 4.
  exact = [found[f'exact scores, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in exact] == [0.5, 1.0, 1.0]
  assert {x['reachable'] for x in exact} == {1.0}
  # Item 4 comes with item 1, which both that want it have already.
  prefix = [found[f'prefix rule, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in prefix] == [0.0, 0.0, 0.0]
  assert {x['reachable'] for x in prefix} == {0.0}
  nearest = [found[f'Semantic-KNN, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in nearest][1:] == [1.0, 1.0]
  # Item 4 is the nearest to all, but for item 3, which users 2 and 3 have
  # already: it is left out, and they find item 5 second.
  assert nearest[1]['ndcg@10'] == pytest.approx((2 + 2 / np.log2(3)) / 4)
  assert retriever.asked and all(masked for _, masked in retriever.asked)


def test_an_unseen_item_comes_by_way_of_its_like():
  walks = ([0, 2, 3, 4], [2, 3, 0, 4], [2, 3, 0, 5])
  retriever = Answers([5, 1, 0, 2, 3, 4])
  found = cold_start.measure(trained(retriever, walks, unseen=(4, 5)))
  prefix = found['prefix rule, epsilon 0.1']
  assert prefix['recall@10'] == pytest.approx(2 / 3)
  assert prefix['reachable'] == pytest.approx(2 / 3)
  # Right behind item 1, which is the first of the seen.
  assert prefix['ndcg@10'] == pytest.approx(2 / 3 / np.log2(3))


def test_cold_start_needs_unseen_items():
  with pytest.raises(UsageError, match='unseen_share is 0'):
    cold_start.measure(trained(Answers([0, 1])))


class _Beams(NamedTuple):
  items: np.ndarray
  scores: np.ndarray
  valid: np.ndarray


class Draws(Answers):
  """Draws of one category at temperature 1, of more at higher ones."""

  codes = CODES

  def search(self, params, batch, k, *, sampler):
    orders = {1.0: [0, 1, 2], 1.5: [0, 1, 3], 2.0: [0, 2, 4]}
    temperature = float(sampler.temperature)
    self.asked.append((temperature, int(sampler.num_levels)))
    found = Answers(orders[temperature]).recommend(params, batch, k)
    return _Beams(found.items, found.scores, found.valid)


def test_entropy_is_of_what_is_drawn_at_a_temperature():
  categories = ('A', 'A', 'A', 'B', 'C', 'A')
  retriever = Draws([0, 1, 2])
  found = diversity.measure(trained(retriever, categories=categories))
  assert [x for x in retriever.asked if x[0] in (1.0, 1.5, 2.0)] == [
    (1.0, 3), (1.5, 3), (2.0, 3),
  ]  # fmt: skip
  two_of_three = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
  for row, expected, recall in (
    ('the best', 0, 0),
    ('T=1.0', 0, 0),
    ('T=1.5', two_of_three, 0),
    # Item 4 is the next of two of four users.
    ('T=2.0', two_of_three, 0.5),
  ):
    for k in (10, 20, 50):
      assert found[row][f'entropy@{k}'] == pytest.approx(expected, abs=1e-12)
    assert found[row]['recall@10'] == recall


class OneSplit(Answers):
  """Knows the next item of one split, and else something wrong."""

  def __init__(self, targets, scores):
    super().__init__([], scores)
    self.targets = targets

  def recommend(self, params, batch, k, lists=None):
    users = np.asarray(batch.user)
    lengths = (np.asarray(batch.history) >= 0).sum(1)
    items = np.full((len(users), k), -1, np.int32)
    for row, (user, length) in enumerate(zip(users, lengths, strict=True)):
      items[row, 0] = self.targets.get((int(user), int(length)), 0)
      items[row, 1] = (items[row, 0] + 1) % len(CODES)
    self.asked.append((k, lists is not None))
    scores = np.broadcast_to(np.resize(self.given, k), items.shape)
    return Recommendations(*map(jnp.asarray, (items, scores, items >= 0)))


def test_the_fixed_weight_is_of_validation():
  # A history of two is of validation, of three of the test.
  validation = {(user, 2): walk[2] for user, walk in enumerate(WALKS)}
  test = {(user, 3): walk[3] for user, walk in enumerate(WALKS)}
  # The second is right where it does not count.
  first = OneSplit(validation, np.array([-1.0, -1.1], np.float32))
  second = OneSplit(test, np.array([-1.0, -9.0], np.float32))
  found = ensemble.measure({'one': trained(first), 'other': trained(second)})
  assert set(found) == {'one', 'other', 'fixed weight', 'adaptive weight'}
  assert found['one']['ndcg@10'] < found['other']['ndcg@10'] == 1
  assert found['fixed weight']['weight'] >= 0.5
  assert found['adaptive weight']['weight'] >= 0.5
  for row in ('fixed weight', 'adaptive weight'):
    assert found[row]['ndcg@10'] < 1
  assert {k for k, _ in first.asked + second.asked} == {50}


def test_the_adaptive_weight_listens_to_who_is_sure():
  # The first is right, and sure of it, for users 0 and 1 alone; the second is
  # right for the others.
  user, targets = np.arange(4), np.array([4, 4, 5, 5])
  first = np.array([[4, 1, 2, 3]] * 2 + [[0, 1, 2, 3]] * 2)
  second = np.array([[3, 2, 1, 0]] * 2 + [[5, 2, 1, 0]] * 2)
  falls = np.array([[5.0], [5.0], [0.1], [0.1]])
  merged = ensemble.merge(
    Ranking(user, targets, first, -falls * np.arange(4)),
    Ranking(user, targets, second, np.tile(-np.arange(4.0), (4, 1))),
  )
  weight = ensemble.adaptive(merged, 20.0, 0.5)
  assert (weight[:2] > 0.99).all() and (weight[2:] < 0.02).all()
  assert ensemble.combined(merged, weight)[:, 0].tolist() == targets.tolist()


def test_an_ensemble_is_of_the_same_users():
  one, other = trained(Answers([0])), trained(Answers([0]))
  fewer = from_json({'evaluation': {'num_users': 2}})
  with pytest.raises(UsageError, match='one and other differ'):
    ensemble.measure({'one': one, 'other': other._replace(config=fewer)})


def test_groups_have_their_own_metrics():
  walks = ([0, 1, 2, 4], [1, 2, 3, 4], [2, 3, 0, 5], [3, 0, 1, 2])
  found = breakdown.measure(trained(Answers([4, 2]), walks))
  assert found['all']['recall@10'] == 0.75
  assert found['all']['share'] == 1
  # 1 -> 2 was bought in a row by the second user, in training.
  assert found['memorisation']['share'] == 0.25
  assert found['memorisation']['recall@10'] == 1
  assert found['memorisation']['ndcg@10'] == pytest.approx(1 / np.log2(3))
  assert found['generalisation']['recall@10'] == pytest.approx(2 / 3)
