"""Computes the metrics of a trained model."""

import dataclasses

import numpy as np

from tiger_jax.data.splits import Examples
from tiger_jax.evaluation import metrics
from tiger_jax.evaluation.ranking import Ranking, Search, Trained, rank

_DEPTH = max(metrics.CUTOFFS)


def measure(
  trained: Trained, examples: Examples, search: Search, label: str = ''
) -> tuple[dict[str, float], Ranking]:
  """Returns the metrics of a model as means over users, and the ranking.

  Only the target item is a hit. The model may recommend items of the history,
  which count as misses unless they are the target.

  Args:
    trained: The model.
    examples: One example per user.
    search: The search settings.
    label: The label of a progress line. If empty, no line is shown.

  Returns:
    The metrics, and the recommendations of each user. The metrics are
    `recall@k` and `ndcg@k` for k = 5 and 10. For models that need Semantic IDs,
    also `sid_recall@10`, which counts any item with the semantic prefix of the
    target as a hit. For generative models that can generate invalid IDs, also
    `invalid@k` for k = 10 and 20: the share of generated IDs that belong to no
    item.
  """
  ranking = rank(trained, examples, _DEPTH, search, label)
  values = metrics.ranking_metrics(ranking.hits)
  prefixes = trained.session.inputs.prefixes
  if prefixes is not None:
    hits = metrics.prefix_hits(ranking.items, ranking.target, prefixes)
    recall = metrics.recall(hits, _DEPTH)
    values[f'sid_recall@{_DEPTH}'] = float(np.mean(recall))
  if trained.session.can_generate_invalid_ids:
    generated = rank(
      trained,
      examples,
      max(metrics.INVALID_CUTOFFS),
      # Invalid IDs have no transitions.
      dataclasses.replace(search, constrained=False, gate=None),
    )
    values |= metrics.invalid_shares(generated.items)
  return values, ranking


def measure_masked(
  trained: Trained, examples: Examples, search: Search
) -> tuple[dict[str, float], Ranking]:
  """Does the same as `measure`, but excludes the items of the history.

  The metrics are only recall and NDCG.
  """
  search = dataclasses.replace(search, exclude_seen=True)
  ranking = rank(trained, examples, _DEPTH, search)
  return metrics.ranking_metrics(ranking.hits), ranking
