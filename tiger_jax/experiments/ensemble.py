"""Two models together, where they fail on different users (2603.19809)."""

from collections.abc import Mapping

from jaxtyping import Float, Int
import numpy as np

from tiger_jax import learning
from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.experiments.ranking import Ranking, Trained, rank

# Of each model so many items are looked at.
_DEPTH = 100
_WEIGHTS = np.linspace(0.0, 1.0, 21)


def measure(models: Mapping[str, Trained]) -> dict[str, dict[str, float]]:
  """Returns the metrics of two models, together by a fixed or a free weight.

  What is added up are the probabilities that each gives its best 100 items,
  normalised over them. The fixed weight is the best on validation. The
  adaptive one counts each model, for a user, by the probability of what it
  puts first: who is surer has more say.

  Args:
    models: Two, by name.

  Returns:
    `recall@k` and `ndcg@k` for k of 5 and 10, on the test, and the (mean)
    `weight` of the first model.

  Raises:
    UsageError: The two were not asked for the same users.
  """
  first, second = models
  one, other = models.values()
  if one.config.evaluation.num_users != other.config.evaluation.num_users or (
    one.config.seed != other.config.seed
  ):
    raise UsageError(
      f'{first} and {second} differ in evaluation.num_users or seed: models '
      'are combined for the same users'
    )
  validation, test = (
    (_ranked(one, name), _ranked(other, name))
    for name in ('validation', 'test')
  )
  scores = [
    _metrics(combined(validation, weight), validation[0])['ndcg@10']
    for weight in _WEIGHTS
  ]
  best = float(_WEIGHTS[int(np.argmax(scores))])
  sure = [probabilities(ranking)[:, 0] for ranking in test]
  share = sure[0] / np.maximum(sure[0] + sure[1], 1e-9)
  answers = {
    first: combined(test, 1.0),
    second: combined(test, 0.0),
    'fixed weight': combined(test, best),
    'adaptive weight': combined(test, share[:, None]),
  }
  weights = {first: 1.0, second: 0.0, 'fixed weight': best}
  weights['adaptive weight'] = float(share.mean())
  return {
    name: _metrics(items, test[0]) | {'weight': weights[name]}
    for name, items in answers.items()
  }


def combined(
  pair: tuple[Ranking, Ranking],
  weight: float | Float[np.ndarray, 'n 1'],
) -> Int[np.ndarray, 'n k']:
  """Returns the best items of two rankings added up.

  Args:
    pair: Of the same users.
    weight: Of the first; the second has the rest.

  Returns:
    The best of all items that either has, -1 for none.
  """
  first, second = pair
  items = np.concatenate([first.items, second.items], 1)
  shares = np.concatenate(
    [
      probabilities(first) * weight,
      probabilities(second) * (1 - weight),
    ],
    1,
  )
  order = np.argsort(items, axis=1, kind='stable')
  items = np.take_along_axis(items, order, 1)
  shares = np.take_along_axis(shares, order, 1)
  # An item is there once or twice, then side by side.
  again = items[:, 1:] == items[:, :-1]
  shares[:, :-1] += np.where(again, shares[:, 1:], 0)
  shares[:, 1:][again] = 0
  shares[items < 0] = 0
  best = np.argsort(-shares, axis=1, kind='stable')[:, : max(CUTOFFS)]
  found = np.take_along_axis(items, best, 1)
  return np.where(np.take_along_axis(shares, best, 1) > 0, found, -1)


def probabilities(ranking: Ranking) -> Float[np.ndarray, 'n k']:
  """Returns the softmax of the scores of each list, 0 for no item."""
  scores = np.where(ranking.items >= 0, ranking.scores, -np.inf)
  scores = scores.astype(np.float64)
  # A list of no items has no best score either.
  top = np.maximum(scores.max(1, keepdims=True), -1e30)
  shares = np.exp(scores - top)
  return shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)


def _ranked(trained: Trained, name: str) -> Ranking:
  c = trained.config
  examples = split(trained.material.dataset, name)
  examples = learning.some(examples, c.evaluation.num_users, c.seed)
  return rank(trained, examples, _DEPTH)


def _metrics(items: Int[np.ndarray, 'n k'], asked: Ranking) -> dict[str, float]:
  return ranking_metrics(items == asked.target[:, None])
