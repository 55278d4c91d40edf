"""The baseline beside every model: what everybody buys."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel


class Popularity(ItemModel):
  """The most frequent items, the same for everyone; nothing is learnt.

  `features` are how often each item comes in the training events.
  """

  def item_vectors(self, features: Any) -> Float[Array, 'items 1']:
    """Returns how often each item comes."""
    return jnp.asarray(features, jnp.float32)[:, None]

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b 1']:
    """Returns ones."""
    return jnp.ones((len(batch.history), 1))
