"""The diversity of recommendations by temperature (section 4.3)."""

import dataclasses

from tiger_jax.evaluation.entropy import CATEGORY_DEPTH, entropy
from tiger_jax.evaluation.metrics import ranking_metrics
from tiger_jax.evaluation.ranking import (
  Search,
  Trained,
  rank,
  require_generative,
  split_users,
)
from tiger_jax.semantic_ids.categories import coarse_categories

CUTOFFS = (10, 20, 50)
TEMPERATURES = (1.0, 1.5, 2.0)


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the mean Entropy@k, for the best items and for sampled items.

  The mean is over test users. The paper does not say how sampling and search
  are combined. Here, k different items are sampled at the temperature. The
  paper does not name the base of the logarithm either; here, entropy is in
  nats. Beams are added until the lists are proven to be correct (see
  `Search.until_proven`), because a search with few beams misses most of the
  items sampled at a high temperature.

  Returns:
    A dict of metrics for the best items, and one for each temperature.
    `entropy@k` is the entropy for k = 10, 20 and 50. `recall@k` and `ndcg@k`
    show the cost of diversity. `proven` is the share of the 50 items that are
    proven to be correct.

  Raises:
    UsageError: The model is not generative.
  """
  session = trained.session
  require_generative(session)
  examples = split_users(session, 'test')
  categories = coarse_categories(session.inputs.dataset.items, CATEGORY_DEPTH)
  search = Search(session.config.evaluation.num_beams, until_proven=True)
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
