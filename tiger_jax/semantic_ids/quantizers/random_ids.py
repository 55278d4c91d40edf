"""Random IDs: codes that have nothing to do with what an item is like.

Section 4.2 of the paper compares the RQ-VAE with them. They are a hash of the
embedding's bits: an item gets the same codes again on every machine, and items
that are almost alike get unrelated ones.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32
import numpy as np


class RandomIds(NamedTuple):
  """A `Quantizer`; see there for what its methods take and return.

  Attributes:
    coefficients: Odd random numbers, the hash function of each level.
    level_codes: The codes of each level, 0, 1, 2, ...
  """

  coefficients: UInt32[Array, 'l dim']
  level_codes: tuple[Int[Array, ' v'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """How many codes each level has."""
    return tuple(len(codes) for codes in self.level_codes)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Gives embeddings their codes."""
    num_levels = len(self.level_codes)
    return jnp.stack([self._own(x, level) for level in range(num_levels)], 1)

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Counts how many codes on, and round, each is from the item's own."""
    every = self.level_codes[level]
    away = every[None] - self._own(x, level)[:, None]
    return (away % len(every)).astype(jnp.float32)

  def reconstruct(self, codes: Int[Array, 'b l']) -> None:
    """Returns nothing: the codes stand for nothing."""

  def _own(self, x: Array, level: int) -> Int[Array, ' b']:
    # Departs from the paper: it draws the codes.
    # What some devices round to zero is zero everywhere, -0.0 too.
    x = jnp.where(jnp.abs(x) < jnp.finfo(jnp.float32).tiny, 0, x)
    words = _mix(lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32))
    hashed = jnp.sum(words * self.coefficients[level][None], axis=1)
    every = self.level_codes[level]
    # A level is so much smaller than 2^32 that no code is favoured: the first
    # of 255 by 6e-8 of its share.
    return every[_mix(hashed) % jnp.uint32(len(every))]


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
  """Spreads every bit of 32 over all of them, one to one.

  The finalizer of MurmurHash3. Sums of products alone would not do: the lowest
  bits of a sum know only the lowest of its terms, which in an embedding that
  was stored in 16 bits are all zero.
  """
  words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
  words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
  return words ^ (words >> 16)
