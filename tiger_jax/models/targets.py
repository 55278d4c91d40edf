"""Finds the items that one forward pass over a history predicts.

A packed row holds several histories, one after the other.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int
import numpy as np

from tiger_jax.interfaces import Batch


def next_items(batch: Batch) -> Int[Array, 'b t']:
  """Returns the item that follows each history item; -1 for padding."""
  following = jnp.pad(
    jnp.asarray(batch.history)[:, 1:], ((0, 0), (0, 1)), constant_values=-1
  )
  if batch.is_packed:
    return jnp.where(batch.target >= 0, jnp.asarray(batch.target), following)
  length = (batch.history >= 0).sum(axis=1, keepdims=True)
  is_last = np.arange(batch.history.shape[1])[None] == length - 1
  return jnp.where(is_last, jnp.asarray(batch.target)[:, None], following)


def same_history(batch: Batch) -> Bool[Array, 'b t t']:
  """Returns whether two items of a packed row belong to one history."""
  is_last = jnp.asarray(batch.target) >= 0
  # The number of histories that end before each item.
  number = jnp.cumsum(is_last, axis=1) - is_last
  return number[:, :, None] == number[:, None, :]


def preceding_items(batch: Batch, num_targets: int) -> Bool[Array, 'b q t']:
  """Returns which items of the history precede each target.

  Args:
    batch: Histories.
    num_targets: The number of targets per row: 1 for the item after the
      history, or the width of the history for `next_items`.
  """
  real = jnp.asarray(batch.history)[:, None] >= 0
  if num_targets == 1:
    return real
  visible = real & np.tri(num_targets, dtype=bool)[None]
  return visible & same_history(batch) if batch.is_packed else visible
