"""The base class of models that score every item."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.targets import next_items


class ItemModel(nn.Module):
  """Scores an item by the inner product of a query and an item vector.

  The query is computed from a history. `features` holds a precomputed row for
  each item, such as a text vector or codes. A model without features gets None.
  A trained subclass defines `queries`, or both `query` and
  `queries_and_targets`. An untrained subclass defines `query` or `scores`.
  """

  config: ModelConfig
  num_items: int
  num_users: int

  def setup(self):
    """Creates the item vectors."""
    self.items = embedding(self.num_items, self.config.d_model)

  def item_vectors(self, features: Any) -> Float[Array, 'items d']:
    """Returns all item vectors; by default they are learned."""
    return self.items.embedding

  def queries(
    self, features: Any, batch: Batch, deterministic: bool
  ) -> Float[Array, 'b t d']:
    """Returns the query for the next item at each history position.

    A query depends on neither later items nor the target.
    """
    raise NotImplementedError

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the query for the item that follows each history."""
    last = (jnp.asarray(batch.history) >= 0).sum(axis=1, keepdims=True) - 1
    queries = self.queries(features, batch, True)
    index = jnp.maximum(last, 0)[:, :, None]
    return jnp.take_along_axis(queries, index, axis=1)[:, 0]

  def scores(self, features: Any, batch: Batch) -> Float[Array, 'b items']:
    """Returns the float32 score of every item for each history."""
    query = jnp.asarray(self.query(features, batch), jnp.float32)
    items = jnp.asarray(self.item_vectors(features), jnp.float32)
    return jnp.einsum('bd,id->bi', query, items)

  def queries_and_targets(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns training queries and their targets; -1 means no target."""
    return self.queries(features, batch, False), next_items(batch)


def whole_sequence(batch: Batch) -> Int[Array, 'b n']:
  """Returns histories with the target appended, padded with -1."""
  first_item = jnp.asarray(batch.history)[:, :1]
  return jnp.concatenate([first_item, next_items(batch)], 1)


def embedding(num: int, width: int) -> nn.Embed:
  """Returns an embedding table with small initial values."""
  return nn.Embed(num, width, embedding_init=nn.initializers.normal(0.02))
