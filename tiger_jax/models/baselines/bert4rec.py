"""BERT4Rec (Sun et al., 2019): masked-item prediction."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import (
  ItemModel,
  embedding,
  whole_sequence,
)
from tiger_jax.models.baselines.sequence_encoder import SequenceEncoder

# The share of items that are masked in training.
_MASK_RATE = 0.3


class Bert4Rec(ItemModel):
  """A bidirectional Transformer that predicts masked items.

  For retrieval, a mask is appended to the history, and the model predicts the
  item at the position of the mask.
  """

  def setup(self):
    """Creates the encoder and the vectors of the items and the mask."""
    c = self.config
    self.items = embedding(self.num_items + 1, c.d_model)
    self.encoder = SequenceEncoder(c, c.max_history + 1, causal=False)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns all item vectors, without the vector of the mask."""
    return self.items.embedding[: self.num_items]

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the encoding of the mask that is appended to each history."""
    history = jnp.asarray(batch.history)
    length = (history >= 0).sum(axis=1)
    row = jnp.arange(len(history))
    sequence = jnp.pad(history, ((0, 0), (0, 1)), constant_values=-1)
    sequence = sequence.at[row, length].set(self.num_items)
    return self._encode(sequence, True)[row, length]

  def queries_and_targets(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns the encoding of every position; only masked items are targets."""
    sequence = whole_sequence(batch)
    real = sequence >= 0
    drawn = jax.random.bernoulli(
      self.make_rng('dropout'), _MASK_RATE, sequence.shape
    )
    # As in the paper, the last item is always masked, because inference
    # predicts the last item.
    last = jnp.arange(sequence.shape[1])[None] == real.sum(1, keepdims=True) - 1
    masked = real & (drawn | last)
    queries = self._encode(jnp.where(masked, self.num_items, sequence), False)
    return queries, jnp.where(masked, sequence, -1)

  def _encode(
    self, sequence: Int[Array, 'b n'], deterministic: bool
  ) -> Float[Array, 'b n d']:
    x = self.items(jnp.maximum(sequence, 0))
    return self.encoder(x, sequence >= 0, deterministic)
