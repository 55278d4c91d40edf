"""GRU4Rec (Hidasi et al., 2016): a recurrent network over items."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.models.dropout import Dropout
from tiger_jax.models.item_model import ItemModel, embedding
from tiger_jax.shapes import Batch


class Gru4Rec(ItemModel):
  """Layers of gated recurrent units, and a linear map to vectors of items."""

  def setup(self):
    """Makes the vectors of the items and the layers."""
    c = self.config
    self.items = embedding(self.num_items, c.d_model)
    self.layers = [
      nn.RNN(nn.GRUCell(c.d_model)) for _ in range(c.num_encoder_layers)
    ]
    self.out = nn.Dense(c.d_model)
    self.drop = Dropout(c.dropout)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the vector of every item."""
    del features
    return self.items.embedding

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns, for each item of a history, a vector for what follows it."""
    del features
    x = self.items(jnp.maximum(jnp.asarray(batch.history), 0))
    for layer in self.layers:
      x = jnp.asarray(layer(self.drop(x, deterministic)))
    return self.out(self.drop(x, deterministic))
