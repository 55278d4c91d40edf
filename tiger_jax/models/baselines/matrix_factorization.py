"""Matrix factorisation (Koren et al., 2009): a vector per user and item."""

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
  """Who the user is decides, not what came last; unknown users get zeros."""

  def setup(self):
    """Makes the vectors of the users and the items."""
    super().setup()
    c = self.config
    self.users = embedding(self.num_users, c.d_model)
    self.drop = Dropout(c.dropout)

  def query(self, features: Any, batch: Batch) -> Float[Array, 'b d']:
    """Returns the vector of each user."""
    user = jnp.asarray(batch.user)
    return self.users(jnp.maximum(user, 0)) * (user >= 0)[:, None]

  def teach(
    self, features: Any, batch: Batch
  ) -> tuple[Float[Array, 'b n d'], Int[Array, 'b n']]:
    """Returns what is learnt: every item that a user has."""
    targets = whole_sequence(batch)
    queries = self.drop(self.query(features, batch), False)[:, None]
    shape = (*targets.shape, queries.shape[-1])
    return jnp.broadcast_to(queries, shape), targets
