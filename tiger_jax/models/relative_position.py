"""Learned attention biases for relative positions and for recency."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

NUM_BUCKETS = 32
MAX_DISTANCE = 128
# All items with at least this many later items share one recency bias.
MAX_RECENCY = 31


def relative_buckets(
  query_positions: np.ndarray, key_positions: np.ndarray, bidirectional: bool
) -> np.ndarray:
  """Returns the bucket of each query-key distance, `[queries, keys]`.

  Each short distance has its own bucket. Longer distances, up to
  `MAX_DISTANCE`, share buckets of increasing width (T5, section 2.1). If
  `bidirectional`, half of the buckets are for keys after their query.
  """
  distance = key_positions[None, :] - query_positions[:, None]
  num_buckets = NUM_BUCKETS
  first_bucket = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    first_bucket = np.where(distance > 0, num_buckets, 0)
    distance = np.abs(distance)
  else:
    distance = np.maximum(-distance, 0)
  num_exact = num_buckets // 2
  log_distance = np.log(np.maximum(distance, 1) / num_exact)
  log_distance /= np.log(MAX_DISTANCE / num_exact)
  bucket = num_exact + (log_distance * (num_buckets - num_exact)).astype(
    np.int32
  )
  bucket = np.minimum(bucket, num_buckets - 1)
  return first_bucket + np.where(distance < num_exact, distance, bucket)


class RelativePositionBias(nn.Module):
  """A learned bias for each head and distance bucket."""

  num_heads: int
  bidirectional: bool

  @nn.compact
  def __call__(
    self, query_positions: np.ndarray, key_positions: np.ndarray
  ) -> Float[Array, 'h q s']:
    """Returns the bias to add to the attention logits."""
    buckets = relative_buckets(
      query_positions, key_positions, self.bidirectional
    )
    table = self.param(
      'table',
      nn.initializers.variance_scaling(1.0, 'fan_in', 'normal'),
      (NUM_BUCKETS, self.num_heads),
    )
    return jnp.moveaxis(table[buckets], -1, 0)


class RecencyBias(nn.Module):
  """A learned bias for each head and recency of an item, initialized to 0."""

  num_heads: int

  @nn.compact
  def __call__(
    self, num_later: Int[Array, '*b s'] | Int[np.ndarray, '*b s']
  ) -> Float[Array, '*b s h']:
    """Returns the bias of each token.

    `num_later` is the number of items between the item of the token and the end
    of the history. It is negative for tokens that get no bias.
    """
    shape = (MAX_RECENCY + 1, self.num_heads)
    table = self.param('table', nn.initializers.zeros, shape)
    bias = table[jnp.clip(num_later, 0, MAX_RECENCY)]
    return jnp.where(jnp.asarray(num_later)[..., None] >= 0, bias, 0)
