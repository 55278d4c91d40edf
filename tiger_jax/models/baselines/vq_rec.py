"""VQ-Rec (Hou et al., 2023): item vectors from the codes of item text."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel, embedding
from tiger_jax.models.baselines.sequence_encoder import SequenceEncoder


class VqRec(ItemModel):
  """SASRec in which an item vector is the mean of the vectors of its codes.

  `features` holds the codes `[items, l]`. In the paper, a product quantizer
  computes the codes.
  """

  level_sizes: tuple[int, ...] = ()

  def setup(self):
    """Creates the code vectors and the encoder."""
    c = self.config
    self.codes = embedding(sum(self.level_sizes), c.d_model)
    self.encoder = SequenceEncoder(c, c.max_history, causal=True)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns all item vectors."""
    return self._pooled(features)

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns the query for the next item at each history position."""
    history = jnp.asarray(batch.history)
    x = self._pooled(features[jnp.maximum(history, 0)])
    return self.encoder(x, history >= 0, deterministic)

  def _pooled(self, codes: Int[Array, '*n l']) -> Float[Array, '*n d']:
    # One lookup for each level: XLA can add the vectors of a level as soon as
    # they are read, while an array of all levels would take l times the memory.
    offsets = np.cumsum((0, *self.level_sizes[:-1])).tolist()
    vectors = [
      self.codes(codes[..., level] + offset)
      for level, offset in enumerate(offsets)
    ]
    return sum(vectors[1:], vectors[0]) / len(vectors)
