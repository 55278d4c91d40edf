"""The metrics of the popularity baseline, user by user."""

import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples


def popularity(
  dataset: Dataset, examples: Examples, masked: bool
) -> dict[str, float]:
  """Returns recall and NDCG of a ranking by training frequency.

  Args:
    dataset: Items and histories.
    examples: The users to recommend for.
    masked: Whether items of a user's history are removed from the ranking.
  """
  counts = np.zeros(dataset.num_items)
  for user in range(dataset.num_users):
    for item in dataset.history_of(user)[:-2]:
      counts[item] += 1
  order = np.argsort(-counts, kind='stable').tolist()
  places = []
  for start, end in zip(examples.start, examples.end, strict=True):
    owned = set(dataset.history[start:end].tolist()) if masked else set()
    ranked = [item for item in order if item not in owned]
    target = int(dataset.history[end])
    places.append(ranked.index(target) + 1 if target in ranked else 10**6)
  place = np.array(places)
  return {f'recall@{k}': float((place <= k).mean()) for k in (5, 10)} | {
    f'ndcg@{k}': float(np.where(place <= k, 1 / np.log2(1 + place), 0).mean())
    for k in (5, 10)
  }
