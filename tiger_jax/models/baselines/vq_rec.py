"""VQ-Rec (Hou et al., 2023): an item is the codes of its text."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel, embedding
from tiger_jax.models.baselines.sequence_encoder import SequenceEncoder


class VqRec(ItemModel):
  """SASRec whose items have no vectors of their own.

  The vector of an item is the mean of those of its codes, of a product
  quantizer in the paper. `features` are the codes `[items, l]`.
  """

  level_sizes: tuple[int, ...] = ()

  def setup(self):
    """Makes the vectors of the codes and the blocks."""
    c = self.config
    self.codes = embedding(sum(self.level_sizes), c.d_model)
    self.encoder = SequenceEncoder(c, c.max_history, causal=True)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the vector of every item."""
    return self._pooled(features)

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns, for each item of a history, a vector for what follows it."""
    history = jnp.asarray(batch.history)
    x = self._pooled(features[jnp.maximum(history, 0)])
    return self.encoder(x, history >= 0, deterministic)

  def _pooled(self, codes: Int[Array, '*n l']) -> Float[Array, '*n d']:
    # A level after the other: all at once would be l times as large.
    offsets = np.cumsum((0, *self.level_sizes[:-1])).tolist()
    vectors = [
      self.codes(codes[..., level] + offset)
      for level, offset in enumerate(offsets)
    ]
    return sum(vectors[1:], vectors[0]) / len(vectors)
