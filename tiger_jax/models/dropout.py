"""Dropout from cheap random bits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32
import numpy as np


class Dropout(nn.Module):
  """Zeroes entries at random and scales up the remaining entries.

  If JAX drew a random number for every entry, random numbers would take most
  of the training time of a small model on a CPU. This module therefore draws
  only a seed. A hash of the seed and the position of an entry decides whether
  the entry is kept. The compiler fuses the hash into the multiplication. The
  result does not depend on the sharding of the array.

  Attributes:
    rate: Probability of zeroing an entry, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, '*shape'], deterministic: bool
  ) -> Float[Array, '*shape']:
    """Returns `x` with entries dropped, or `x` itself if `deterministic`."""
    if deterministic or self.rate == 0:
      return x
    seed = jax.random.bits(self.make_rng('dropout'), (2,))
    keep = _hash(_positions(x.shape), seed) >= np.uint32(self.rate * 2**32)
    return jnp.where(keep, x / (1 - self.rate), 0)


def _positions(shape: tuple[int, ...]) -> UInt32[Array, '*shape']:
  """Returns the row-major index of each entry of an array."""
  index = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    axis_index = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    index = index + axis_index * np.uint32(stride)
    stride *= shape[axis]
  return index


def _hash(
  x: UInt32[Array, '*shape'], seed: UInt32[Array, '2']
) -> UInt32[Array, '*shape']:
  """Mixes numbers with a seed; every input bit affects every output bit.

  The hash is a multiplication, followed by the finalizer of MurmurHash3
  (Appleby, public domain). Half of the seed is mixed in before the
  multiplication, and half inside the finalizer.
  """
  x = (x ^ seed[0]) * np.uint32(0x9E3779B1)
  x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
  x = x ^ seed[1]
  x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
