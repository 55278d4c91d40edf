"""Ranking metrics for one relevant item per user."""

from jaxtyping import Bool, Float, Int
import numpy as np

CUTOFFS = (5, 10)
# In the order of the paper's tables.
RANKING = tuple(f'{name}@{k}' for k in CUTOFFS for name in ('recall', 'ndcg'))
# Cutoffs of the share of generated IDs that belong to no item (Figure 6).
INVALID_CUTOFFS = (10, 20)


def recall(hits: Bool[np.ndarray, 'b k'], k: int) -> Float[np.ndarray, ' b']:
  """Returns 1 for each user whose target is among the first k items, else 0.

  With one target per user, recall equals the hit rate.

  Args:
    hits: Whether each ranked item is the target, best first.
    k: The cutoff.
  """
  return np.asarray(hits[:, :k].any(1), np.float64)


def ndcg(hits: Bool[np.ndarray, 'b k'], k: int) -> Float[np.ndarray, ' b']:
  """Returns 1 / log2(1 + rank) if the rank of the target is at most k, else 0.

  Args:
    hits: Whether each ranked item is the target, best first.
    k: The cutoff.
  """
  rank = hits[:, :k].argmax(1) + 1
  return recall(hits, k) / np.log2(1 + rank)


def ranking_metrics(hits: Bool[np.ndarray, 'b k']) -> dict[str, float]:
  """Returns the means of recall and NDCG at every cutoff; 0 without users.

  Args:
    hits: Whether each ranked item is the target, best first.
  """
  num = max(1, len(hits))
  return {
    f'{name}@{k}': float(metric(hits, k).sum()) / num
    for name, metric in (('recall', recall), ('ndcg', ndcg))
    for k in CUTOFFS
  }


def prefix_hits(
  items: Int[np.ndarray, 'b k'],
  target: Int[np.ndarray, ' b'],
  prefixes: Int[np.ndarray, 'items l'],
) -> Bool[np.ndarray, 'b k']:
  """Returns whether each ranked item has the semantic prefix of the target.

  Args:
    items: The rows of the ranked items, best first; -1 for no item.
    target: The row of the target of each user.
    prefixes: The semantic prefix of every item.
  """
  same = (prefixes[items] == prefixes[target][:, None]).all(-1)
  return same & (items >= 0)


def invalid_shares(generated: Int[np.ndarray, 'b k']) -> dict[str, float]:
  """Returns the share of generated IDs that belong to no item (section 4.5).

  Args:
    generated: The items of an unconstrained search; -1 for an invalid ID.
  """
  return {
    f'invalid@{k}': float((generated[:, :k] < 0).mean(1).sum()) / len(generated)
    for k in INVALID_CUTOFFS
  }
