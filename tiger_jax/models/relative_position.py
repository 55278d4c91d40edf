"""T5's learned biases for relative positions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

NUM_BUCKETS = 32
MAX_DISTANCE = 128


def relative_buckets(
  query_positions: np.ndarray, key_positions: np.ndarray, bidirectional: bool
) -> np.ndarray:
  """Returns the bucket of each query-key distance, `[queries, keys]`.

  Near distances have a bucket each; far ones share buckets whose width grows
  with the logarithm, up to `MAX_DISTANCE` (T5, section 2.1). If
  `bidirectional`, half of the buckets are for keys after their query.
  """
  distance = key_positions[None, :] - query_positions[:, None]
  num_buckets = NUM_BUCKETS
  first = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    first = np.where(distance > 0, num_buckets, 0)
    distance = np.abs(distance)
  else:
    distance = np.maximum(-distance, 0)
  exact = num_buckets // 2
  far = np.log(np.maximum(distance, 1) / exact) / np.log(MAX_DISTANCE / exact)
  far = exact + (far * (num_buckets - exact)).astype(np.int32)
  far = np.minimum(far, num_buckets - 1)
  return first + np.where(distance < exact, distance, far)


class RelativePositionBias(nn.Module):
  """A learned bias per head and bucket of distance."""

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
