"""GRU4Rec (Hidasi et al., 2016): a recurrent network over items."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.models.dropout import Dropout


class Gru4Rec(ItemModel):
  """Layers of gated recurrent units, followed by a linear map to queries."""

  def setup(self):
    """Creates the item vectors and the layers."""
    super().setup()
    c = self.config
    self.layers = [
      nn.RNN(nn.GRUCell(c.d_model)) for _ in range(c.num_encoder_layers)
    ]
    self.out = nn.Dense(c.d_model)
    self.drop = Dropout(c.dropout)

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns the query for the next item at each history position."""
    x = self.items(jnp.maximum(jnp.asarray(batch.history), 0))
    for layer in self.layers:
      x = jnp.asarray(layer(self.drop(x, deterministic)))
    return self.out(self.drop(x, deterministic))
