"""BERT4Rec (Sun et al., 2019): learns to fill masked items in."""

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

# Of the items of a sequence, so many are masked at random while training.
_MASKED = 0.3


class Bert4Rec(ItemModel):
  """A bidirectional Transformer; what follows a history is a mask after it."""

  def setup(self):
    """Makes the vectors of the items and the mask, and the blocks."""
    c = self.config
    self.items = embedding(self.num_items + 1, c.d_model)
    self.encoder = SequenceEncoder(c, c.max_history + 1, causal=False)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the vector of every item."""
    return self.items.embedding[: self.num_items]

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns a vector for what follows each history."""
    history = jnp.asarray(batch.history)
    length = (history >= 0).sum(axis=1)
    row = jnp.arange(len(history))
    sequence = jnp.pad(history, ((0, 0), (0, 1)), constant_values=-1)
    sequence = sequence.at[row, length].set(self.num_items)
    return self._encode(sequence, True)[row, length]

  def teach(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns what is learnt: the masked items, and always the last one."""
    sequence = whole_sequence(batch)
    real = sequence >= 0
    drawn = jax.random.bernoulli(
      self.make_rng('dropout'), _MASKED, sequence.shape
    )
    # As in the original, a share of the examples is what is asked in the end.
    last = jnp.arange(sequence.shape[1])[None] == real.sum(1, keepdims=True) - 1
    masked = real & (drawn | last)
    queries = self._encode(jnp.where(masked, self.num_items, sequence), False)
    return queries, jnp.where(masked, sequence, -1)

  def _encode(
    self, sequence: Int[Array, 'b n'], deterministic: bool
  ) -> Float[Array, 'b n d']:
    x = self.items(jnp.maximum(sequence, 0))
    return self.encoder(x, sequence >= 0, deterministic)
