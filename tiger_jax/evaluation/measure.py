"""Measures a trained model on users with one held-out item each."""

import dataclasses

import numpy as np

from tiger_jax.data.splits import Examples
from tiger_jax.evaluation import metrics
from tiger_jax.evaluation.ranking import Ranking, Search, Trained, rank

_DEPTH = max(metrics.CUTOFFS)


def measure(
  trained: Trained, examples: Examples, search: Search, label: str = ''
) -> dict[str, float]:
  """Returns the metrics of a model.

  Hits are counted on items. Items of the history may be recommended, and count
  as misses.

  Args:
    trained: The model.
    examples: The users.
    search: How to search.
    label: The label of a progress line; none is shown if it is empty.

  Returns:
    Means over users: `recall@k` and `ndcg@k` for k of 5 and 10;
    `sid_recall@10`, which counts an item with the semantic prefix of the target
    as a hit, of models that need Semantic IDs; `invalid@k` for k of 10 and 20,
    the share of generated IDs that no item has, of generative models.
  """
  return measure_users(trained, examples, search, label)[0]


def measure_users(
  trained: Trained, examples: Examples, search: Search, label: str = ''
) -> tuple[dict[str, float], Ranking]:
  """Like `measure`, and also returns the lists of the users."""
  ranking = rank(trained, examples, _DEPTH, search, label)
  values = metrics.ranking_metrics(ranking.hits)
  prefixes = trained.session.inputs.prefixes
  if prefixes is not None:
    hits = metrics.prefix_hits(ranking.items, ranking.target, prefixes)
    recall = metrics.recall(hits, _DEPTH)
    values[f'sid_recall@{_DEPTH}'] = float(np.mean(recall))
  if trained.session.entry.is_generative:
    generated = rank(
      trained,
      examples,
      max(metrics.INVALID_CUTOFFS),
      dataclasses.replace(search, constrained=False),
    )
    values |= metrics.invalid_shares(generated.items)
  return values, ranking


def measure_masked(
  trained: Trained, examples: Examples, search: Search
) -> dict[str, float]:
  """Returns recall and NDCG where the items of the history are excluded."""
  return measure_masked_users(trained, examples, search)[0]


def measure_masked_users(
  trained: Trained, examples: Examples, search: Search
) -> tuple[dict[str, float], Ranking]:
  """Like `measure_masked`, and also returns the lists of the users."""
  search = dataclasses.replace(search, exclude_seen=True)
  ranking = rank(trained, examples, _DEPTH, search)
  return metrics.ranking_metrics(ranking.hits), ranking
