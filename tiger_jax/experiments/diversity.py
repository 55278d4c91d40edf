"""The diversity of recommendations by temperature (section 4.3)."""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float, Int
import numpy as np

from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.metrics import ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank, sample_users
from tiger_jax.semantic_ids.categories import coarse_categories

CUTOFFS = (10, 20, 50)
TEMPERATURES = (1.0, 1.5, 2.0)
# The number of levels of a category path that count. The paper's examples, Skin
# Face and Tools Nail, have two.
_DEPTH = 2


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns Entropy@k over test users, for the best items and for drawn items.

  The paper does not say how sampling and search are combined. Here, k different
  items are drawn by their probabilities at the temperature. The paper does not
  name the base of the logarithm either; here, entropy is in nats. The lists are
  proven (see `Search.until_proven`), because a search with few beams misses
  most of the items that are drawn at a high temperature.

  Returns:
    For the best items and for each temperature: `entropy@k` for k = 10, 20 and
    50; `recall@k` and `ndcg@k`, which show the cost of diversity; and `proven`,
    the proven share of the 50 items.

  Raises:
    UsageError: The model is not generative.
  """
  session, c = trained.session, trained.session.config
  if not session.entry.is_generative:
    raise UsageError(
      f'config.model.name is {c.model.name!r}: choose a model that generates '
      'Semantic IDs, such as tiger'
    )
  dataset = session.inputs.dataset
  examples = sample_users(
    split(dataset, 'test'), c.evaluation.num_users, c.seed
  )
  categories = coarse_categories(dataset.items, _DEPTH)
  search = Search(c.evaluation.num_beams, until_proven=True)
  rankings = {'the best': rank(trained, examples, max(CUTOFFS), search)}
  for temperature in TEMPERATURES:
    drawn = dataclasses.replace(search, temperature=temperature)
    rankings[f'T={temperature}'] = rank(trained, examples, max(CUTOFFS), drawn)
  return {
    name: {
      f'entropy@{k}': float(entropy(ranking.items[:, :k], categories).mean())
      for k in CUTOFFS
    }
    | ranking_metrics(ranking.hits)
    | {'proven': ranking.proven}
    for name, ranking in rankings.items()
  }


def entropy(
  items: Int[np.ndarray, 'n k'], categories: Sequence[str]
) -> Float[np.ndarray, ' n']:
  """Returns the entropy of the categories in each list, in nats.

  An item row of -1 stands for no item and does not count.
  """
  _, codes = np.unique(np.asarray(categories), return_inverse=True)
  listed_codes = np.where(items >= 0, codes[items], -1)
  values = np.zeros(len(items))
  for row, listed in enumerate(listed_codes):
    _, counts = np.unique(listed[listed >= 0], return_counts=True)
    shares = counts / max(1, counts.sum())
    values[row] = -(shares * np.log(shares)).sum()
  return values
