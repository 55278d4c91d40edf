"""Dropout from cheap random bits."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Dropout(nn.Module):
  """Zeroes entries at random and scales the others up.

  The default generator is the most expensive part of a small model's step on
  a CPU. One byte per entry is enough to decide, so one 32-bit draw serves four
  entries; the rate is rounded to a multiple of 1/256, at most 255/256, and the
  scale uses the rounded rate, so that the expectation is exact.

  Attributes:
    rate: Probability of zeroing an entry, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, '*shape'], deterministic: bool
  ) -> Float[Array, '*shape']:
    """Returns `x` with entries dropped, or as it is where `deterministic`."""
    threshold = min(round(self.rate * 256), 255)
    if deterministic or threshold == 0:
      return x
    size = math.prod(x.shape)
    draws = jax.random.bits(self.make_rng('dropout'), (-(-size // 4),))
    bytes_ = jax.lax.bitcast_convert_type(draws, jnp.uint8).reshape(-1)
    keep = bytes_[:size].reshape(x.shape) >= threshold
    return jnp.where(keep, x * (256 / (256 - threshold)), 0)
