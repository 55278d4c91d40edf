"""Two models together, where they fail on different users (2603.19809)."""

from collections.abc import Mapping
import itertools
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import (
  Ranking,
  Search,
  Trained,
  rank,
  sample_users,
)

# Of each model so many items are looked at.
_DEPTH = 50
_WEIGHTS = np.linspace(0.0, 1.0, 21)
_SLOPES = (1.0, 2.0, 5.0, 10.0, 20.0)
_THRESHOLDS = np.linspace(-0.4, 0.6, 11)


class Merged(NamedTuple):
  """The answers of two models to the same users, every item once.

  Attributes:
    items: Item rows `[n, k]`, those of both lists; -1 for none.
    first: What the first model makes of each, from 0 to 1 `[n, k]`.
    second: What the second does.
    sure: How probable the first finds what it puts first, of all that it
      lists `[n, 1]`.
    target: The item `[n]` that was to be found.
    proven: The smaller of the shares of listed items that are proven for each
      model.
  """

  items: Int[np.ndarray, 'n k']
  first: Float[np.ndarray, 'n k']
  second: Float[np.ndarray, 'n k']
  sure: Float[np.ndarray, 'n 1']
  target: Int[np.ndarray, ' n']
  proven: float


def measure(models: Mapping[str, Trained]) -> dict[str, dict[str, float]]:
  """Returns the metrics of two models, together by a fixed or a free weight.

  What is added up are the scores that each gives its best 50 items, from 0 for
  the last of them to 1 for the first. The fixed weight is the best on
  validation. The adaptive one is, for each user, a sigmoid of the probability
  of what the first model puts first, whose slope and threshold are the best on
  validation: where the first is sure, it is listened to. The authors' code does
  the same, but for the probability, which is over the whole catalog there.
  The lists are proven (see `ranking`), so that the metrics describe the models
  and not the number of beams.

  Returns:
    `recall@k` and `ndcg@k` for k of 5 and 10, on the test; the (mean) `weight`
    of the first model; and `proven`, see `Merged`.

  Raises:
    UsageError: The two were not asked for the same users.
  """
  first, second = models
  one, other = models.values()
  users = [
    (c.evaluation.num_users, c.seed)
    for c in (one.session.config, other.session.config)
  ]
  if users[0] != users[1]:
    raise UsageError(
      f'{first} and {second} differ in evaluation.num_users or seed: models '
      'are combined for the same users'
    )
  validation, test = (
    merge(_ranked(one, name), _ranked(other, name))
    for name in ('validation', 'test')
  )
  fixed = max(_WEIGHTS, key=lambda x: _metrics(validation, x)['ndcg@10'])
  curve = max(
    itertools.product(_SLOPES, _THRESHOLDS),
    key=lambda x: _metrics(validation, adaptive(validation, *x))['ndcg@10'],
  )
  weights = {
    first: 1.0,
    second: 0.0,
    'fixed weight': float(fixed),
    'adaptive weight': adaptive(test, *curve),
  }
  return {
    name: _metrics(test, weight)
    | {'weight': float(np.mean(weight)), 'proven': test.proven}
    for name, weight in weights.items()
  }


def merge(first: Ranking, second: Ranking) -> Merged:
  """Puts two rankings of the same users side by side, item by item."""
  shares = scaled(first), scaled(second)
  items = np.concatenate([first.items, second.items], 1)
  order = np.argsort(items, axis=1, kind='stable')
  items = np.take_along_axis(items, order, 1)
  # An item is there once or twice, then side by side: the second of two goes.
  again = np.pad(items[:, 1:] == items[:, :-1], ((0, 0), (1, 0)))
  columns = []
  for side, share in enumerate(shares):
    padded = np.zeros(items.shape)
    padded[:, side * first.items.shape[1] :][:, : share.shape[1]] = share
    padded = np.take_along_axis(padded, order, 1)
    padded[:, :-1] += np.where(again[:, 1:], padded[:, 1:], 0)
    columns.append(padded)
  items = np.where(again, -1, items)
  return Merged(
    items,
    *columns,
    sure=surest(first),
    target=first.target,
    proven=min(first.proven, second.proven),
  )


def adaptive(
  merged: Merged, slope: float, threshold: float
) -> Float[np.ndarray, 'n 1']:
  """Returns the weight of the first model for each user."""
  return 1 / (1 + np.exp(-slope * (merged.sure - threshold)))


def combined(
  merged: Merged, weight: float | Float[np.ndarray, 'n 1']
) -> Int[np.ndarray, 'n k']:
  """Returns the best ten items of two rankings added up, -1 for none.

  The first ranking has the weight, the second has the rest.
  """
  shares = merged.first * weight + merged.second * (1 - weight)
  shares = np.where(merged.items >= 0, shares, -1)
  best = np.argsort(-shares, axis=1, kind='stable')[:, : max(CUTOFFS)]
  return np.take_along_axis(merged.items, best, 1)


def scaled(ranking: Ranking) -> Float[np.ndarray, 'n k']:
  """Returns the scores of each list from 0 to 1, 0 for no item."""
  fall, last = _falls(ranking)
  return np.where(ranking.items >= 0, 1 - fall / np.maximum(last, 1e-9), 0)


def surest(ranking: Ranking) -> Float[np.ndarray, 'n 1']:
  """Returns the softmax of the first score over each list, 0 for no item."""
  fall, _ = _falls(ranking)
  total = np.where(ranking.items >= 0, np.exp(-fall), 0).sum(1, keepdims=True)
  return np.where(ranking.items[:, :1] >= 0, 1 / np.maximum(total, 1), 0)


def _falls(
  ranking: Ranking,
) -> tuple[Float[np.ndarray, 'n k'], Float[np.ndarray, 'n 1']]:
  """Returns how far each score is below the first, and that of the last."""
  scores = ranking.scores.astype(np.float64)
  fall = np.where(ranking.items >= 0, scores[:, :1] - scores, 0)
  return fall, fall.max(1, keepdims=True)


def _ranked(trained: Trained, name: str) -> Ranking:
  c = trained.session.config
  examples = split(trained.session.inputs.dataset, name)
  examples = sample_users(examples, c.evaluation.num_users, c.seed)
  search = Search(c.evaluation.num_beams, until_proven=True)
  return rank(trained, examples, _DEPTH, search)


def _metrics(
  merged: Merged, weight: float | Float[np.ndarray, 'n 1']
) -> dict[str, float]:
  hits = combined(merged, weight) == merged.target[:, None]
  return ranking_metrics(hits)
