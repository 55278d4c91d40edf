"""The base class of models that score items by a product of two vectors."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import next_items


class ItemModel(nn.Module):
  """A vector for what follows a history, and one for every item.

  An item's score is their product. `features` is what a model knows of the
  items from elsewhere, by row: vectors of their text, codes, or None. A
  subclass has `queries`, or both `query` and `teach`.
  """

  config: ModelConfig
  num_items: int
  num_users: int

  def setup(self):
    """Makes a vector for every item."""
    self.items = embedding(self.num_items, self.config.d_model)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns the vector of every item; by default it is learnt."""
    return self.items.embedding

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns, for each item of a history, a vector for what follows it.

    No item sees a later one, nor the target.
    """
    raise NotImplementedError

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns a vector for what follows each history."""
    last = (jnp.asarray(batch.history) >= 0).sum(axis=1, keepdims=True) - 1
    queries = self.queries(features, batch, True)
    index = jnp.maximum(last, 0)[:, :, None]
    return jnp.take_along_axis(queries, index, axis=1)[:, 0]

  def teach(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns vectors, and the item that each should find, -1 for none."""
    return self.queries(features, batch, False), next_items(batch)


def whole_sequence(batch: Batch) -> Int[Array, 'b n']:
  """Returns histories with their targets after them, -1 as padding."""
  first = jnp.asarray(batch.history)[:, :1]
  return jnp.concatenate([first, next_items(batch)], 1)


def embedding(num: int, width: int) -> nn.Embed:
  """Returns vectors to be learnt, short at first."""
  return nn.Embed(num, width, embedding_init=nn.initializers.normal(0.02))
