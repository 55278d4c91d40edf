"""How varied recommendations are, by temperature (section 4.3)."""

import dataclasses

from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.evaluation.entropy import CATEGORY_DEPTH, entropy
from tiger_jax.evaluation.metrics import ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank, sample_users
from tiger_jax.semantic_ids.categories import coarse_categories

CUTOFFS = (10, 20, 50)
TEMPERATURES = (1.0, 1.5, 2.0)


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns Entropy@k of the test users, for the best items and for drawn ones.

  The paper does not say how sampling and search combine: here k different
  items are drawn, by their probabilities at the temperature. Nor does it name
  the base of the logarithm: here entropy is in nats. The lists are proven (see
  `ranking`), because a narrow search misses most of the items that are drawn at
  a high temperature.

  Returns:
    By temperature, `entropy@k` for k of 10, 20 and 50; `recall@k` and `ndcg@k`,
    which varied items cost; and `proven`, the proven share of the 50 items.

  Raises:
    UsageError: The model is not generative.
  """
  session, c = trained.session, trained.session.config
  if not session.entry.is_generative:
    raise UsageError(
      f'config.model.name is {c.model.name!r}: only models that '
      'generate Semantic IDs can draw items'
    )
  dataset = session.inputs.dataset
  examples = sample_users(
    split(dataset, 'test'), c.evaluation.num_users, c.seed
  )
  categories = coarse_categories(dataset.items, CATEGORY_DEPTH)
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
