"""Combines the scores of two models (arXiv 2603.19809)."""

from collections.abc import Callable, Mapping
import dataclasses
import itertools
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import (
  Ranking,
  Search,
  Trained,
  rank,
  split_users,
)

# The number of items from each model.
_DEPTH = 50
# Candidates for the fixed weight, and for the slope and the threshold of the
# adaptive weight.
_WEIGHTS = np.linspace(0.0, 1.0, 21)
_SLOPES = (1.0, 2.0, 5.0, 10.0, 20.0)
_THRESHOLDS = np.linspace(-0.4, 0.6, 11)


class Merged(NamedTuple):
  """The merged lists of two models for the same users.

  Attributes:
    items: The rows of the items in either list, each once; -1 for no item.
    first: The score of each item by the first model, scaled to 0..1; 0 for
      items that are not in the list of this model.
    second: The score of each item by the second model, scaled likewise.
    confidence: The softmax probability of the first model's top item among its
      listed items.
    target: The row of the held-out item of each user.
  """

  items: Int[np.ndarray, 'n k']
  first: Float[np.ndarray, 'n k']
  second: Float[np.ndarray, 'n k']
  confidence: Float[np.ndarray, 'n 1']
  target: Int[np.ndarray, ' n']


# Computes the weight of the first model in merged lists.
_Weigh = Callable[[Merged], float | Float[np.ndarray, 'n 1']]


def measure(models: Mapping[str, Trained]) -> dict[str, dict[str, float]]:
  """Returns metrics of each model, and of the first with each of the others.

  The scores of the best 50 items of each model are scaled to the range from 0
  (last item) to 1 (first item). The two scores of an item are then added with a
  weight. The fixed weight is the best on validation. The adaptive weight
  differs by user: it is a sigmoid of the first model's confidence. The
  confidence is the softmax probability of the model's top item. The slope and
  the threshold of the sigmoid are the best on validation. The code of arXiv
  2603.19809 does the same, except that its probability is over the whole
  catalog.

  Returns:
    A dict of metrics for each model, and for each combination. The rows of a
    combination are named `first + other` (fixed weight) and `first + other,
    adaptive`. `recall@k` and `ndcg@k` are the test metrics for k = 5 and 10.
    `masked_recall@k` and `masked_ndcg@k` are the same metrics for lists without
    the items of the history. `weight` is the weight of the first model (the
    mean over users).

  Raises:
    UsageError: Two models rank items for different users.
  """
  first, *others = models
  for other in others:
    _check_users(models, first, other)
  rankings = {name: _rank_splits(model) for name, model in models.items()}
  rows = {}
  for other in others:
    validation, test, masked = map(merge, rankings[first], rankings[other])
    for row, weigh in _weights(first, other, validation).items():
      weight = weigh(test)
      unseen = _metrics(masked, weigh(masked))
      rows[row] = {
        'weight': float(np.mean(weight)),
        **_metrics(test, weight),
        **{f'masked_{name}': value for name, value in unseen.items()},
      }
  return rows


def _weights(first: str, other: str, validation: Merged) -> dict[str, _Weigh]:
  """Returns functions from merged lists to the weight of the first model.

  The keys are the names of the rows.
  """
  fixed = max(_WEIGHTS, key=lambda x: _metrics(validation, x)['ndcg@10'])
  curve = max(
    itertools.product(_SLOPES, _THRESHOLDS),
    key=lambda x: _metrics(validation, adaptive(validation, *x))['ndcg@10'],
  )
  return {
    first: lambda _: 1.0,
    other: lambda _: 0.0,
    f'{first} + {other}': lambda _: float(fixed),
    f'{first} + {other}, adaptive': lambda lists: adaptive(lists, *curve),
  }


def merge(first: Ranking, second: Ranking) -> Merged:
  """Merges two rankings of the same users into one list of items per user."""
  scores = scaled(first), scaled(second)
  items = np.concatenate([first.items, second.items], 1)
  order = np.argsort(items, axis=1, kind='stable')
  items = np.take_along_axis(items, order, 1)
  # If both lists have an item, its two copies are now adjacent. The second copy
  # is removed, and its score is moved to the first.
  is_repeat = np.pad(items[:, 1:] == items[:, :-1], ((0, 0), (1, 0)))
  columns = []
  for side, score in enumerate(scores):
    padded = np.zeros(items.shape)
    padded[:, side * first.items.shape[1] :][:, : score.shape[1]] = score
    padded = np.take_along_axis(padded, order, 1)
    padded[:, :-1] += np.where(is_repeat[:, 1:], padded[:, 1:], 0)
    columns.append(padded)
  items = np.where(is_repeat, -1, items)
  return Merged(
    items,
    *columns,
    confidence=confidence(first),
    target=first.target,
  )


def adaptive(
  merged: Merged, slope: float, threshold: float
) -> Float[np.ndarray, 'n 1']:
  """Returns the weight of the first model for each user."""
  return 1 / (1 + np.exp(-slope * (merged.confidence - threshold)))


def combined(
  merged: Merged, weight: float | Float[np.ndarray, 'n 1']
) -> Int[np.ndarray, 'n k']:
  """Returns the ten items with the best weighted sum of scores; -1 for no item.

  `weight` is the weight of the first ranking, and `1 - weight` is the weight of
  the second ranking.
  """
  scores = merged.first * weight + merged.second * (1 - weight)
  scores = np.where(merged.items >= 0, scores, -1)
  best = np.argsort(-scores, axis=1, kind='stable')[:, : max(CUTOFFS)]
  return np.take_along_axis(merged.items, best, 1)


def scaled(ranking: Ranking) -> Float[np.ndarray, 'n k']:
  """Returns the scores of each list scaled to 0..1; 0 for no item."""
  gap = _gap_to_top(ranking)
  largest = np.maximum(gap.max(1, keepdims=True), 1e-9)
  return np.where(ranking.items >= 0, 1 - gap / largest, 0)


def confidence(ranking: Ranking) -> Float[np.ndarray, 'n 1']:
  """Returns the softmax probability of the top item of each list.

  It is 0 for a list without items.
  """
  gap = _gap_to_top(ranking)
  total = np.where(ranking.items >= 0, np.exp(-gap), 0).sum(1, keepdims=True)
  return np.where(ranking.items[:, :1] >= 0, 1 / np.maximum(total, 1), 0)


def _gap_to_top(ranking: Ranking) -> Float[np.ndarray, 'n k']:
  """Returns the difference between the top score and each score of a list.

  The difference is 0 where the list has no item.
  """
  scores = ranking.scores.astype(np.float64)
  return np.where(ranking.items >= 0, scores[:, :1] - scores, 0)


def _check_users(models: Mapping[str, Trained], *names: str) -> None:
  configs = [models[name].session.config for name in names]
  if len({(c.evaluation.num_users, c.seed) for c in configs}) > 1:
    raise UsageError(
      f'{" and ".join(names)} differ in config.evaluation.num_users or '
      'config.seed: set the same values, so that both models rank items for '
      'the same users'
    )


def _rank_splits(trained: Trained) -> tuple[Ranking, Ranking, Ranking]:
  """Returns the lists of validation and of test, and masked lists of test."""
  session = trained.session
  search = Search.from_config(session.config.evaluation)
  masked = dataclasses.replace(search, exclude_seen=True)
  validation, test = (
    split_users(session, name) for name in ('validation', 'test')
  )
  return (
    rank(trained, validation, _DEPTH, search),
    rank(trained, test, _DEPTH, search),
    rank(trained, test, _DEPTH, masked),
  )


def _metrics(
  merged: Merged, weight: float | Float[np.ndarray, 'n 1']
) -> dict[str, float]:
  hits = combined(merged, weight) == merged.target[:, None]
  return ranking_metrics(hits)
