"""Random IDs: codes that are unrelated to the content of items.

Section 4.2 of the paper compares them with the RQ-VAE. The codes are a hash of
the embedding's bits. An item gets the same codes on every machine, and similar
items get unrelated codes.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32
import numpy as np


class RandomIds(NamedTuple):
  """Implements `Quantizer`, which documents the methods.

  Attributes:
    coefficients: Odd random numbers, which define one hash function per level.
    level_codes: The codes 0, 1, 2, ... of each level.
  """

  coefficients: UInt32[Array, 'l dim']
  level_codes: tuple[Int[Array, ' v'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(len(codes) for codes in self.level_codes)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    num_levels = len(self.level_codes)
    return jnp.stack([self._hash(x, level) for level in range(num_levels)], 1)

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns `code - own_code` modulo the level size, for each code."""
    codes_of_level = self.level_codes[level]
    steps = codes_of_level[None] - self._hash(x, level)[:, None]
    return (steps % len(codes_of_level)).astype(jnp.float32)

  def reconstruct(self, codes: Int[Array, 'b l']) -> None:
    """Returns None: the codes represent no embedding."""

  def _hash(self, x: Array, level: int) -> Int[Array, ' b']:
    # Departs from the paper: the paper draws the codes at random.
    # Set subnormal numbers and -0.0 to zero, as some devices do themselves.
    x = jnp.where(jnp.abs(x) < jnp.finfo(jnp.float32).tiny, 0, x)
    words = _mix(lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32))
    hashed = jnp.sum(words * self.coefficients[level][None], axis=1)
    codes = self.level_codes[level]
    # The modulo makes some codes negligibly more probable: with 255 codes, by a
    # factor of 1 + 6e-8.
    return codes[_mix(hashed) % jnp.uint32(len(codes))]


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
) -> RandomIds:
  """Draws the hash functions."""
  shape = (len(sizes), embeddings.shape[1])
  return RandomIds(
    jax.random.bits(rng, shape, jnp.uint32) | jnp.uint32(1),
    tuple(jnp.arange(size) for size in sizes),
  )


def _mix(words: Array) -> Array:
  """Applies the finalizer of MurmurHash3, which makes all bits interdependent.

  A sum of products would not suffice. Its lowest bits depend only on the lowest
  bits of its terms, which are all zero in embeddings stored in 16 bits.
  """
  words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
  words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
  return words ^ (words >> 16)
