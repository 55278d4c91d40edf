"""A two-tower model (Covington et al., 2016; Yi et al., 2019)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.models.dropout import Dropout


class TwoTower(ItemModel):
  """An item tower over text vectors, and a user tower over the history.

  An item vector is a learned vector plus a projection of the text vector. A
  query is the mean of the item vectors of a history, plus an MLP of this mean.
  `features` holds the text vectors.
  """

  def setup(self):
    """Creates both towers."""
    super().setup()
    c = self.config
    self.text = nn.Dense(c.d_model, use_bias=False)
    self.user_hidden = nn.Dense(c.mlp_dim)
    self.user_out = nn.Dense(c.d_model)
    self.drop = Dropout(c.dropout)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns all item vectors."""
    return self.items.embedding + self.text(features)

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns the query for the next item at each history position."""
    history = jnp.asarray(batch.history)
    rows = jnp.maximum(history, 0)
    real = jnp.asarray(history >= 0, jnp.float32)[:, :, None]
    x = (self.items(rows) + self.text(features[rows])) * real
    mean = x.cumsum(1) / jnp.maximum(real.cumsum(1), 1)
    hidden = nn.relu(self.user_hidden(self.drop(mean, deterministic)))
    return self.user_out(self.drop(hidden, deterministic)) + mean
