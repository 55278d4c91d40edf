"""The transition model, compared with loops and with values worked by hand."""

import collections

import jax
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.transitions import (
  TransitionModel,
  Transitions,
)
from tiger_jax.recommenders.inputs import Inputs, training_transitions
from tiger_jax.retrieval.items import ItemRetriever

RNG = np.random.default_rng(4)


def dataset(histories, num_items):
  lengths = [len(x) for x in histories]
  names = tuple(f'i{x}' for x in range(num_items))
  fields = ('title', 'price', 'brand', 'categories', 'description')
  return Dataset(
    name='test',
    items=Items(ids=names, fields={x: names for x in fields}),
    user_ids=tuple(f'u{x}' for x in range(len(histories))),
    history=np.concatenate(histories).astype(np.int32),
    offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
  )


def slow_scores(histories, num_items, request):
  """Counts pairs in dictionaries, and scores every item for one history."""
  training = [list(x)[:-2] for x in histories]
  counts, leaving = collections.Counter(), collections.Counter()
  for items in training:
    for a, b in zip(items, items[1:], strict=False):
      counts[a, b] += 1
      leaving[a] += 1
  popularity = collections.Counter(x for items in training for x in items)
  most = max(popularity.values())
  scores = [1e-6 * popularity[x] / most for x in range(num_items)]
  for weight, a in zip((1, 0.5, 0.3, 0.2, 0.1), request[::-1], strict=False):
    for b in range(num_items):
      scores[b] += weight * counts[a, b] / (leaving[a] + 1)
  return scores


def padded(requests, width):
  history = np.full((len(requests), width), -1, np.int32)
  for row, request in zip(history, requests, strict=True):
    row[: len(request)] = request
  unknown = np.full(len(requests), -1, np.int32)
  return Batch(history, unknown, unknown)


def scores(data, requests, width=6, **fields):
  config = ModelConfig(name='transitions')
  model = TransitionModel(config, data.num_items, 2, **fields)
  features = jax.tree.map(jax.numpy.asarray, training_transitions(Inputs(data)))
  return np.asarray(model.apply({}, features, padded(requests, width),
                                method='scores'))  # fmt: skip


def test_transitions_equal_values_worked_by_hand():
  # The training pairs are 0 -> 1 and 1 -> 2 of the first user, and 0 -> 1 of
  # the second.
  data = dataset([[0, 1, 2, 3, 4], [0, 1, 4, 3]], 5)
  table = training_transitions(Inputs(data))
  assert table.start.tolist() == [0, 1, 2, 2, 2, 2]
  assert table.successor[:2].tolist() == [1, 2]
  assert table.count[:3].tolist() == [2, 1, 0]
  assert table.num_left.tolist() == [2, 1, 0, 0, 0]
  assert table.popularity.tolist() == [2, 2, 1, 0, 0]
  got = scores(data, [[3, 0], [0, 1], []])
  np.testing.assert_allclose(
    got, [[0, 2 / 3, 0, 0, 0], [0, 1 / 3, 1 / 2, 0, 0], [0] * 5], atol=2e-6
  )
  # For an empty history, items are ranked by popularity.
  assert np.argsort(-got[2], kind='stable').tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('chunk', [1, 3, 128])
def test_scores_equal_a_slow_count(chunk):
  num_items = 9
  histories = [
    RNG.integers(0, num_items, RNG.integers(3, 12)) for _ in range(40)
  ]
  requests = [
    RNG.integers(0, num_items, n).tolist() for n in (0, 1, 2, 4, 5, 6)
  ]
  data = dataset(histories, num_items)
  expected = [slow_scores(histories, num_items, x) for x in requests]
  np.testing.assert_allclose(
    scores(data, requests, chunk=chunk), expected, rtol=1e-5
  )


def test_held_out_events_are_not_counted():
  histories = [RNG.integers(0, 6, 7) for _ in range(10)]
  before = training_transitions(Inputs(dataset(histories, 6)))
  for items in histories:
    items[-2:] = (items[-2:] + 1) % 6
  after = training_transitions(Inputs(dataset(histories, 6)))
  for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a, b)


def test_adding_pairs_gives_the_table_of_all_pairs():
  pairs = RNG.integers(0, 7, (200, 2))
  popularity = np.bincount(pairs[:, 1], minlength=8)
  expected = Transitions.from_pairs(pairs, popularity)
  table = Transitions.from_pairs(
    pairs[:150], np.bincount(pairs[:150, 1], minlength=8)
  )
  stop = int(expected.start[-1])
  for part in np.split(pairs[150:], [10, 10, 30]):
    shapes = [x.shape for x in table]
    table = table.add(part)
    assert [x.shape for x in table] == shapes
    assert all(x.dtype == np.int32 for x in table)
  for a, b in zip(table, expected, strict=True):
    np.testing.assert_array_equal(a[:stop], b[:stop])
  # The most frequent successors come first.
  for first in range(8):
    start, end = table.start[first : first + 2]
    assert (np.diff(table.count[start:end]) <= 0).all()
  assert table.start[8] == table.start[7]


def test_a_full_table_grows():
  table = Transitions.from_pairs(np.array([[0, 1]]), np.ones(60, int))
  assert len(table.successor) == 1025
  pairs = np.stack(np.unravel_index(np.arange(1100), (60, 60)), 1)
  grown = table.add(pairs)
  assert grown.start[-1] == 1100 and len(grown.successor) == 1100 + 1024
  assert table.add(pairs[:1025]).successor.shape == (1025,)


@pytest.mark.parametrize('row', [-1, 5])
def test_a_pair_with_a_row_outside_the_table_is_refused(row):
  table = Transitions.from_pairs(np.array([[0, 1]]), np.ones(5, int))
  with pytest.raises(UsageError, match=f'row {row}: use rows from 0 to 4'):
    table.add(np.array([[0, 2], [row, 1]]))


def test_a_dataset_without_transitions_ranks_by_popularity():
  data = dataset([[2, 0, 1], [2, 1, 0], [1, 0, 2]], 3)
  table = training_transitions(Inputs(data))
  assert table.start.tolist() == [0, 0, 0, 0]
  model = TransitionModel(ModelConfig(name='transitions'), 3, 3)
  best = ItemRetriever(model, table).recommend({}, padded([[1]], 6), 3)
  assert best.items.tolist() == [[2, 1, 0]]
