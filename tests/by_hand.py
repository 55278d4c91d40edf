"""The metrics of the popularity baseline, computed with a loop over users."""

import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples


def popularity(
  dataset: Dataset, examples: Examples, masked: bool
) -> dict[str, float]:
  """Returns recall and NDCG of a ranking by training frequency.

  Args:
    dataset: Items and histories.
    examples: The evaluated users.
    masked: Whether items of a user's history are removed from the ranking.
  """
  counts = np.zeros(dataset.num_items)
  for user in range(dataset.num_users):
    for item in dataset.history_of(user)[:-2]:
      counts[item] += 1
  order = np.argsort(-counts, kind='stable').tolist()
  ranks = []
  for start, end in zip(examples.start, examples.end, strict=True):
    history = set(dataset.history[start:end].tolist()) if masked else set()
    ranked = [item for item in order if item not in history]
    target = int(dataset.history[end])
    ranks.append(ranked.index(target) + 1 if target in ranked else 10**6)
  rank = np.array(ranks)
  return {f'recall@{k}': float((rank <= k).mean()) for k in (5, 10)} | {
    f'ndcg@{k}': float(np.where(rank <= k, 1 / np.log2(1 + rank), 0).mean())
    for k in (5, 10)
  }
