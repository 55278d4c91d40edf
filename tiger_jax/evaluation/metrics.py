"""Ranking metrics for one relevant item per user."""

from jaxtyping import Bool, Float
import numpy as np

CUTOFFS = (5, 10)
# In the order of the paper's tables.
RANKING = tuple(f'{name}@{k}' for k in CUTOFFS for name in ('recall', 'ndcg'))


def recall(hits: Bool[np.ndarray, 'b k'], k: int) -> Float[np.ndarray, ' b']:
  """Returns 1 where the target is among the first k, else 0.

  With one target per user this is also the hit rate.

  Args:
    hits: Whether each ranked entry is the target, best first.
    k: The cutoff.
  """
  return np.asarray(hits[:, :k].any(1), np.float64)


def ndcg(hits: Bool[np.ndarray, 'b k'], k: int) -> Float[np.ndarray, ' b']:
  """Returns 1 / log2(1 + rank) where the target ranks within k, else 0.

  Args:
    hits: Whether each ranked entry is the target, best first.
    k: The cutoff.
  """
  rank = hits[:, :k].argmax(1) + 1
  return recall(hits, k) / np.log2(1 + rank)


def ranking_metrics(hits: Bool[np.ndarray, 'b k']) -> dict[str, float]:
  """Returns the means of recall and NDCG at every cutoff, 0 of nobody.

  Args:
    hits: Whether each ranked entry is the target, best first.
  """
  num = max(1, len(hits))
  return {
    f'{name}@{k}': float(metric(hits, k).sum()) / num
    for name, metric in (('recall', recall), ('ndcg', ndcg))
    for k in CUTOFFS
  }
