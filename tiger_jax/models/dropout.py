"""Dropout from cheap random bits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32
import numpy as np


class Dropout(nn.Module):
  """Zeroes entries at random and scales the others up.

  Drawing a random number per entry with JAX's own generator takes longer than
  the rest of a small model's step on a CPU. Here only a seed is drawn so; an
  entry is kept or not by a hash of the seed and its position, which the
  compiler fuses into the multiplication, and which does not depend on how the
  array is spread over devices.

  Attributes:
    rate: Probability of zeroing an entry, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, '*shape'], deterministic: bool
  ) -> Float[Array, '*shape']:
    """Returns `x` with entries dropped, or as it is where `deterministic`."""
    if deterministic or self.rate == 0:
      return x
    seed = jax.random.bits(self.make_rng('dropout'), (2,))
    keep = _hash(_positions(x.shape), seed) >= np.uint32(self.rate * 2**32)
    return jnp.where(keep, x / (1 - self.rate), 0)


def _positions(shape: tuple[int, ...]) -> UInt32[Array, '*shape']:
  """Returns the number of each entry of an array, counted row by row."""
  number = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    number = number + along * np.uint32(stride)
    stride *= shape[axis]
  return number


def _hash(
  x: UInt32[Array, '*shape'], seed: UInt32[Array, '2']
) -> UInt32[Array, '*shape']:
  """Mixes numbers with a seed; every bit in decides on every bit out.

  MurmurHash3's finalizer (Appleby, public domain) after one multiplication,
  with half of the seed before it and half inside.
  """
  x = (x ^ seed[0]) * np.uint32(0x9E3779B1)
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = x ^ seed[1]
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
