"""The baseline that every table carries: what everybody buys."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Int
import numpy as np

from tiger_jax.shapes import Batch, Recommendations


class PopularityRetriever:
  """Recommends the most frequent items of the training events to everyone."""

  def __init__(self, num_items: int, training_items: Int[np.ndarray, ' n']):
    """Counts.

    Args:
      num_items: Rows of the catalogue.
      training_items: The item row of every training event.
    """
    counts = np.bincount(training_items, minlength=num_items)
    self._order = np.argsort(-counts, kind='stable').astype(np.int32)
    self._counts = counts[self._order].astype(np.float32)

  def recommend(self, params: Any, batch: Batch, k: int) -> Recommendations:
    """Returns the k most frequent items for each row of the batch.

    Args:
      params: Not used: counts are all there is.
      batch: Only its number of rows matters.
      k: How many. Where the catalogue has fewer, the rest is marked invalid.
    """
    del params
    short = (0, max(0, k - len(self._order)))
    items = np.pad(self._order[:k], short, constant_values=-1)
    scores = np.pad(self._counts[:k], short, constant_values=-np.inf)
    shape = (len(batch.target), k)
    return Recommendations(
      jnp.broadcast_to(jnp.asarray(items)[None], shape),
      jnp.broadcast_to(jnp.asarray(scores)[None], shape),
      jnp.broadcast_to(jnp.asarray(items >= 0)[None], shape),
    )
