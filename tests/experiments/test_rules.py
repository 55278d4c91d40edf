"""Tests of experiments on models with fixed answers.

An item of a list is proven if the search guarantees its place (see `Ranking`).
"""

import dataclasses

import numpy as np
import pytest

from tests.sessions import with_parts
from tests.walks import make_dataset
from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.ranking import Ranking, Trained
from tiger_jax.experiments import breakdown, cold_start, diversity, ensemble
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.semantic_ids.ids import SemanticIds

# The history of each user. The last item is the test target, and the one before
# it the validation target.
WALKS = ([0, 1, 2, 4], [1, 2, 3, 4], [2, 3, 0, 5], [3, 0, 1, 5])
# The targets by the user and the length of the history.
VALIDATION = {(user, 2): walk[2] for user, walk in enumerate(WALKS)}
TEST = {(user, 3): walk[3] for user, walk in enumerate(WALKS)}
# Item 4 shares its semantic prefix with item 1. Item 5 shares it with no item.
CODES = np.array(
  [[0, 0, 0], [1, 1, 0], [2, 0, 0], [3, 0, 0], [1, 1, 1], [2, 2, 0]], np.int32
)
VECTORS = np.array(
  [[0, 1], [1, 0], [1, 0], [0.5, 0.5], [1, 0.2], [0.1, 1]], np.float32
)


class Answers(TigerRetriever):
  """Returns the same items to all users, and records the calls."""

  codes = CODES

  def __init__(self, order, scores=None, num_proven=50):
    self.order = order
    self.scores = scores
    self.num_proven = num_proven
    self.removed = []
    self.calls = []

  def remove(self, rows):
    self.removed.append(np.asarray(rows).tolist())
    order = [x for x in self.order if x not in self.removed[-1]]
    smaller = Answers(order, self.scores, self.num_proven)
    smaller.calls = self.calls
    return smaller

  def search(self, *unused, **unused_too):
    raise AssertionError('expected a call of search_exact')

  def search_exact(self, params, batch, k, *, num_beams, lists, sampler):
    assert num_beams == 512
    rows = []
    for row in range(len(batch.user)):
      denied = set() if lists is None else set(lists.rows[row].tolist())
      rows.append([x for x in self.order if x not in denied])
    self.calls.append((k, lists is not None))
    # A search can return more than k items.
    items = np.full((len(rows), k + 2), -1, np.int32)
    for row, allowed in zip(items, rows, strict=True):
      row[: len(allowed[: k + 2])] = allowed[: k + 2]
    return self._beams(items)

  def _beams(self, items):
    scores = np.broadcast_to(-np.arange(items.shape[1]), items.shape)
    if self.scores is not None:
      scores = np.broadcast_to(self.scores[: items.shape[1]], items.shape)
    num_proven = np.full(len(items), self.num_proven)
    codes = np.zeros((*items.shape, 3), np.int32)
    return Beams(items, codes, scores, items >= 0, num_proven)


class Fixed(Session):
  """A session whose retriever has fixed answers."""

  def with_catalog(self, catalog):
    is_kept = catalog.contains(self.inputs.ids.codes)
    retriever = self.retriever.remove(np.flatnonzero(~is_kept))
    return with_parts(self, retriever=retriever)


def trained(
  retriever,
  walks=WALKS,
  categories=None,
  unseen=(),
  codes=CODES,
  model='tiger',
):
  num = len(codes)
  categories = categories or ('',) * num
  dataset = make_dataset(walks, num, unseen, categories=categories)
  config = from_json(
    {
      'model': {'name': model, 'max_history': 4},
      'train': {'length_buckets': (4,)},
      'evaluation': {'batch_size': 8, 'num_users': 0},
    }
  )
  ids = SemanticIds(codes, tuple((codes.max(0) + 1).tolist()), 2, {})
  vectors = np.resize(VECTORS, (num, 2))
  session = Fixed.open(config, Inputs(dataset, ids, vectors))
  if retriever:
    session = with_parts(session, retriever=retriever)
  return Trained(session, {}, session.inputs.embeddings)


def test_each_rule_for_unseen_items_gives_the_metrics_worked_by_hand():
  retriever = Answers([5, 4, 0, 1, 2, 3])
  rows = cold_start.measure(trained(retriever, unseen=(4, 5)))
  assert retriever.removed == [[4, 5]]
  # At epsilon 0.1, one of ten items may be unseen, and item 5 is before item 4.
  exact = [rows[f'exact scores, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in exact] == [0.5, 1.0, 1.0]
  assert {x['reachable'] for x in exact} == {1.0}
  # The prefix rule inserts item 4 after item 1, and then removes the history of
  # each user. User 0 has items 0, 1 and 2, so the list of user 0 is 4 and 3.
  # User 1 has items 1, 2 and 3, so the list of user 1 is 0 and 4. The target of
  # both users is item 4.
  prefix = [rows[f'prefix rule, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in prefix] == [0.5, 0.5, 0.5]
  assert prefix[0]['ndcg@10'] == pytest.approx((1 + 1 / np.log2(3)) / 4)
  assert {x['reachable'] for x in prefix} == {0.5}
  assert {x['reachable_items'] for x in prefix} == {0.5}
  # The coarse rule also inserts item 5, after item 2. The lists of users 0 to 3
  # are (4, 5, 3), (0, 4, 5), (1, 4, 5) and (4, 2, 5).
  coarse = [rows[f'coarse prefix rule, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in coarse] == [0.5, 1.0, 1.0]
  ndcg = (1 + 1 / np.log2(3) + 2 / np.log2(4)) / 4
  assert coarse[1]['ndcg@10'] == pytest.approx(ndcg)
  assert {x['reachable'] for x in coarse} == {1.0}
  assert {x['reachable_items'] for x in coarse} == {1.0}
  # The search is for 52 items instead of 50. It may return items 1 and 2 of the
  # history, because items 4 and 5 are inserted after them.
  assert {k for k, _ in retriever.calls} == {52, 128}
  nearest = [rows[f'Semantic-KNN, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
  assert [x['recall@10'] for x in nearest][1:] == [1.0, 1.0]
  # Item 3 is nearest for users 2 and 3, but is excluded. Then item 4 is nearest
  # for all users, and item 5, the target of users 2 and 3, is second.
  assert nearest[1]['ndcg@10'] == pytest.approx((2 + 2 / np.log2(3)) / 4)
  assert retriever.calls and all(masked for _, masked in retriever.calls)


def test_the_prefix_rule_needs_a_seen_item_with_the_same_prefix():
  walks = ([0, 2, 3, 4], [2, 3, 0, 4], [2, 3, 0, 5])
  retriever = Answers([5, 1, 0, 2, 3, 4])
  rows = cold_start.measure(trained(retriever, walks, unseen=(4, 5)))
  prefix = rows['prefix rule, epsilon 0.1']
  assert prefix['recall@10'] == pytest.approx(2 / 3)
  # Item 4 is the target of two of the three users. The rule cannot return item
  # 5, the target of the third user.
  assert prefix['reachable'] == pytest.approx(2 / 3)
  assert prefix['reachable_items'] == 0.5
  assert rows['exact scores, epsilon 0.1']['reachable_items'] == 1
  # Item 1 is the best item that is not unseen, and item 4 is inserted after it.
  assert prefix['ndcg@10'] == pytest.approx(2 / 3 / np.log2(3))


def test_cold_start_needs_unseen_items():
  with pytest.raises(UsageError, match='unseen_share is 0'):
    cold_start.measure(trained(Answers([0, 1])))


def test_cold_start_needs_a_generative_model():
  with pytest.raises(UsageError, match="'sasrec'.*generates Semantic IDs"):
    cold_start.measure(trained(None, unseen=(4,), model='sasrec'))


def test_diversity_needs_a_generative_model():
  with pytest.raises(UsageError, match="'sasrec'.*generates Semantic IDs"):
    diversity.measure(trained(None, model='sasrec'))


@pytest.mark.parametrize('seed', [0, 1])
def test_metrics_of_the_prefix_rule_equal_a_loop_over_users(seed):
  """The loop adds unseen items to a list, and then removes the history."""
  rng = np.random.default_rng(seed)
  unseen = np.arange(30, 40)
  prefixes = rng.integers(0, (4, 5), (40, 2))
  codes = np.concatenate([prefixes, np.arange(40)[:, None]], 1).astype(np.int32)
  walks = [
    [*rng.permutation(30)[: rng.integers(3, 20)].tolist(), rng.choice(unseen)]
    for _ in range(30)
  ]
  order = rng.permutation(30).tolist()
  lists = []
  for *history, _ in walks:
    items = []
    for item in order:
      same_prefix = (prefixes == prefixes[item]).all(1)
      items.append(item)
      if not same_prefix[items[:-1]].any():
        items += [x for x in unseen.tolist() if same_prefix[x]]
    lists.append([x for x in items if x not in history])
  ranks = []
  for items, (*_, target) in zip(lists, walks, strict=True):
    # Epsilon 0.3 allows three unseen items among ten.
    allowed = [x for x in items if x >= 30][:3]
    kept = [x for x in items if x < 30 or x in allowed][:10]
    ranks.append(kept.index(target) + 1 if target in kept else np.inf)
  expected = 1 / np.log2(1 + np.array(ranks))
  row = cold_start.measure(
    trained(Answers(order), walks, unseen=unseen, codes=codes)
  )['prefix rule, epsilon 0.3']
  assert expected.sum() > 0
  assert row['ndcg@10'] == pytest.approx(expected.mean())
  # Recall is at most the share of reachable targets.
  assert row['recall@50'] <= row['reachable']


class Draws(Answers):
  """Draws one category at temperature 1, and two categories at 1.5 and 2."""

  def search_exact(self, params, batch, k, *, sampler, **search):
    if sampler is None:
      return super().search_exact(params, batch, k, sampler=None, **search)
    orders = {1.0: [0, 1, 2], 1.5: [0, 1, 3], 2.0: [0, 2, 4]}
    temperature = float(sampler.temperature)
    self.calls.append((temperature, int(sampler.num_levels)))
    # At temperature 2, two of three items are proven.
    drawn = Answers(
      orders[temperature], num_proven=2 if temperature == 2 else 9
    )
    return drawn.search_exact(params, batch, k, sampler=None, **search)


def test_the_entropy_of_drawn_items_is_measured_at_each_temperature():
  categories = ('A', 'A', 'A', 'B', 'C', 'A')
  retriever = Draws([0, 1, 2])
  rows = diversity.measure(trained(retriever, categories=categories))
  assert [x for x in retriever.calls if x[0] in (1.0, 1.5, 2.0)] == [
    (1.0, 3), (1.5, 3), (2.0, 3),
  ]  # fmt: skip
  two_of_three = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
  for row, expected, recall in (
    ('the best', 0, 0),
    ('T=1.0', 0, 0),
    ('T=1.5', two_of_three, 0),
    # Item 4 is the target of two of the four users.
    ('T=2.0', two_of_three, 0.5),
  ):
    for k in (10, 20, 50):
      assert rows[row][f'entropy@{k}'] == pytest.approx(expected, abs=1e-12)
    assert rows[row]['recall@10'] == recall
    proven = 2 / 3 if row == 'T=2.0' else 1
    assert rows[row]['proven'] == pytest.approx(proven)


class OneSplit(Answers):
  """Returns the target first in one split, and a wrong item in the other."""

  def __init__(self, targets, scores):
    super().__init__([], np.resize(scores, 60))
    self.targets = targets

  def search(self, params, batch, k, *, num_beams, lists, sampler, constrained):
    users = np.asarray(batch.user)
    lengths = (np.asarray(batch.history) >= 0).sum(1)
    items = np.full((len(users), k), -1, np.int32)
    for row, (user, length) in enumerate(zip(users, lengths, strict=True)):
      items[row, 0] = self.targets.get((int(user), int(length)), 0)
      items[row, 1] = (items[row, 0] + 1) % len(CODES)
    is_masked = bool((np.asarray(lists.rows) >= 0).any())
    self.calls.append((num_beams, k, int(lengths.max()), is_masked))
    return self._beams(items)


class RepeatsHistory(OneSplit):
  """Returns the first item of the history, unless masked, and then the target.

  The target is that of the test.
  """

  def __init__(self):
    super().__init__(TEST, -np.arange(60.0, dtype=np.float32))

  def search(self, params, batch, k, **options):
    beams = super().search(params, batch, k, **options)
    *_, is_masked = self.calls[-1]
    if is_masked:
      return beams
    first = np.asarray(batch.history)[:, :1]
    return self._beams(np.concatenate([first, beams.items], 1)[:, :k])


def test_the_weights_of_an_ensemble_are_chosen_on_validation():
  # The second model is right only on test, which must not change the weights.
  first = OneSplit(VALIDATION, np.array([-1.0, -1.1], np.float32))
  second = OneSplit(TEST, np.array([-1.0, -9.0], np.float32))
  rows = ensemble.measure({'first': trained(first), 'second': trained(second)})
  combined = ['first + second', 'first + second, adaptive']
  assert list(rows) == ['first', 'second', *combined]
  assert rows['first']['ndcg@10'] < rows['second']['ndcg@10'] == 1
  for row in combined:
    assert rows[row]['weight'] >= 0.5
    assert rows[row]['ndcg@10'] < 1
  # The config has 30 beams. Histories have two items on validation, and three
  # on test.
  for model in (first, second):
    assert model.calls == [
      (30, 50, 2, False), (30, 50, 3, False), (30, 50, 3, True),
    ]  # fmt: skip


def test_an_ensemble_combines_the_first_model_with_each_other_model():
  model = trained(RepeatsHistory())
  rows = ensemble.measure({'a': model, 'b': model, 'c': model})
  assert list(rows) == [
    'a', 'b', 'a + b', 'a + b, adaptive', 'c', 'a + c', 'a + c, adaptive',
  ]  # fmt: skip
  for row in rows.values():
    assert row['ndcg@10'] == pytest.approx(1 / np.log2(3))
    assert row['masked_ndcg@10'] == 1


def test_the_adaptive_weight_follows_the_confidence():
  # The first model is right and confident for users 0 and 1. The second model
  # is right for users 2 and 3.
  user, targets = np.arange(4), np.array([4, 4, 5, 5])
  first = np.array([[4, 1, 2, 3]] * 2 + [[0, 1, 2, 3]] * 2)
  second = np.array([[3, 2, 1, 0]] * 2 + [[5, 2, 1, 0]] * 2)
  slopes = np.array([[5.0], [5.0], [0.1], [0.1]])
  merged = ensemble.merge(
    Ranking(user, targets, first, -slopes * np.arange(4), user),
    Ranking(user, targets, second, np.tile(-np.arange(4.0), (4, 1)), user),
  )
  weight = ensemble.adaptive(merged, 20.0, 0.5)
  assert (weight[:2] > 0.99).all() and (weight[2:] < 0.02).all()
  assert ensemble.combined(merged, weight)[:, 0].tolist() == targets.tolist()


def test_an_ensemble_of_different_users_is_refused():
  first, second = trained(Answers([0])), trained(Answers([0]))
  config = from_json({'evaluation': {'num_users': 2}})
  session = dataclasses.replace(second.session, config=config)
  with pytest.raises(UsageError, match='first and second differ'):
    ensemble.measure({'first': first, 'second': Trained(session, {})})


def test_metrics_of_groups_equal_values_worked_by_hand():
  walks = ([0, 1, 2, 4], [1, 2, 3, 4], [2, 3, 0, 5], [3, 0, 1, 2])
  rows = breakdown.measure(trained(Answers([4, 2], num_proven=1), walks))
  assert rows['all']['recall@10'] == 0.75
  assert rows['all']['share'] == 1
  # The second user bought 1 and then 2 in training.
  assert rows['memorization']['share'] == 0.25
  assert rows['memorization']['recall@10'] == 1
  assert rows['memorization']['proven'] == rows['all']['proven'] == 0.5
  assert rows['memorization']['ndcg@10'] == pytest.approx(1 / np.log2(3))
  assert rows['generalization']['recall@10'] == pytest.approx(2 / 3)
