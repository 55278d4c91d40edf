"""The nearest items by their text, the paper's Semantic-KNN."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel


class ItemKnn(ItemModel):
  """A history is the mean of its items' vectors; nothing is learnt.

  `features` are the vectors of the text, whose cosine counts.
  """

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the vector of every item, of length 1."""
    norm = jnp.linalg.norm(features, axis=1, keepdims=True)
    return features / jnp.maximum(norm, 1e-9)

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the mean of each history."""
    history = jnp.asarray(batch.history)
    real = (history >= 0).astype(jnp.float32)
    vectors = self.item_vectors(features)[jnp.maximum(history, 0)]
    total = jnp.einsum('btd,bt->bd', vectors, real)
    return total / jnp.maximum(real.sum(1, keepdims=True), 1)
