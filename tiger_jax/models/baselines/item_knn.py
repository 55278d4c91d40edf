"""Nearest neighbors by item text: the paper's Semantic-KNN."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel


class ItemKnn(ItemModel):
  """Scores an item by its mean cosine similarity to the history.

  `features` holds the text vectors. The model has no parameters.
  """

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the text vectors, scaled to length 1."""
    norm = jnp.linalg.norm(features, axis=1, keepdims=True)
    return features / jnp.maximum(norm, 1e-9)

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the mean item vector of each history."""
    history = jnp.asarray(batch.history)
    real = (history >= 0).astype(jnp.float32)
    vectors = self.item_vectors(features)[jnp.maximum(history, 0)]
    total = jnp.einsum('btd,bt->bd', vectors, real)
    return total / jnp.maximum(real.sum(1, keepdims=True), 1)
