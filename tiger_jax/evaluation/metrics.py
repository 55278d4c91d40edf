"""Ranking metrics for one relevant item per user."""

from jaxtyping import Bool, Float
import numpy as np


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
