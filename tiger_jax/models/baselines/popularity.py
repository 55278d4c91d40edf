"""The popularity baseline."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel


class Popularity(ItemModel):
  """Recommends the most frequent items to every user.

  `features` holds the count of each item in the training events. The model has
  no parameters.
  """

  def item_vectors(self, features: Any) -> Float[Array, 'items 1']:
    """Returns the item counts."""
    return jnp.asarray(features, jnp.float32)[:, None]

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b 1']:
    """Returns ones, so that the score of an item is its count."""
    return jnp.ones((len(batch.history), 1))
