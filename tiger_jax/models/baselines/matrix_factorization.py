"""Matrix factorization (Koren et al., 2009)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import (
  ItemModel,
  embedding,
  whole_sequence,
)
from tiger_jax.models.dropout import Dropout


class MatrixFactorization(ItemModel):
  """A learned vector for each user and item.

  The history is ignored. Unknown users have a zero vector.
  """

  def setup(self):
    """Creates the user and item vectors."""
    super().setup()
    c = self.config
    self.users = embedding(self.num_users, c.d_model)
    self.drop = Dropout(c.dropout)

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the user vectors."""
    user = jnp.asarray(batch.user)
    return self.users(jnp.maximum(user, 0)) * (user >= 0)[:, None]

  def queries_and_targets(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns the user vectors; all items of a user are targets."""
    targets = whole_sequence(batch)
    queries = self.drop(self.query(features, batch), False)[:, None]
    shape = (*targets.shape, queries.shape[-1])
    return jnp.broadcast_to(queries, shape), targets
