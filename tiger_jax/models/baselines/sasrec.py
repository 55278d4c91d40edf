"""SASRec (Kang and McAuley, 2018): a causal Transformer over items."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.models.baselines.sequence_encoder import SequenceEncoder


class SasRec(ItemModel):
  """A causal Transformer with the same item vectors for inputs and scores."""

  def setup(self):
    """Creates the item vectors and the encoder."""
    super().setup()
    c = self.config
    self.encoder = SequenceEncoder(c, c.max_history, causal=True)

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns the query for the next item at each history position."""
    history = jnp.asarray(batch.history)
    x = self.items(jnp.maximum(history, 0))
    return self.encoder(x, history >= 0, deterministic)
