"""Embeddings of the prefixes of Semantic IDs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, UInt32
import numpy as np


class PrefixEmbedding(nn.Module):
  """A table in which a hash of a prefix selects the row of its embedding.

  Prefixes that differ only in their last code have adjacent rows. All
  extensions of a prefix are therefore one slice of the table, which is read
  much faster than single rows.

  Attributes:
    num_rows: The number of rows at which such a slice can start.
    dim: The width of an embedding.
    level_sizes: The number of codes at each level.
    embedding_init: The initializer of the table.
    dtype: The dtype of the embeddings that the encoder reads.
  """

  num_rows: int
  dim: int
  level_sizes: tuple[int, ...]
  embedding_init: nn.initializers.Initializer
  dtype: jnp.dtype

  def setup(self):
    """Creates the table, in which even the last slice is complete."""
    shape = (self.num_rows + max(self.level_sizes), self.dim)
    self.embedding = self.param('embedding', self.embedding_init, shape)

  def __call__(self, codes: Int[Array, '*b l']) -> Float[Array, '*b l d']:
    """Embeds the prefixes of 1, 2, ... codes of each Semantic ID."""
    rows = hash_prefixes(codes, self.num_rows)
    return self.embedding[rows].astype(self.dtype)

  def extensions(
    self,
    prefix_hash: UInt32[Array, 'b q'],
    level: int,
    codes: Integer[Array, 'b q w'] | None = None,
  ) -> Float[Array, 'b q _w d']:
    """Returns the embeddings of each prefix with one more code, in float32.

    Args:
      prefix_hash: The hash of each prefix, see `extend_hash`.
      level: The level of the added code.
      codes: The codes to add to each prefix; None for all codes of the level.
    """
    first = _first_row(prefix_hash, self.num_rows)
    if codes is not None:
      rows = first[..., None] + codes
      return self.embedding.at[rows].get(mode='promise_in_bounds')
    size = (self.level_sizes[level], self.dim)

    def read(row: Int[Array, '']) -> Float[Array, 'v d']:
      return jax.lax.dynamic_slice(self.embedding, (row, 0), size)

    return jax.vmap(read)(first.reshape(-1)).reshape(*first.shape, *size)


def hash_prefixes(
  codes: Int[Array, '*b l'], num_rows: int
) -> Int[Array, '*b l']:
  """Returns the rows of the prefixes of 1, 2, ... codes."""
  prefix_hash = jnp.zeros(codes.shape[:-1], jnp.uint32)
  rows = []
  for level in range(codes.shape[-1]):
    rows.append(_first_row(prefix_hash, num_rows) + codes[..., level])
    prefix_hash = extend_hash(prefix_hash, codes[..., level])
  return jnp.stack(rows, -1)


def extend_hash(
  prefix_hash: UInt32[Array, '*b'], code: Int[Array, '*b']
) -> UInt32[Array, '*b']:
  """Returns the hash of a prefix with one more code.

  The empty prefix has the hash 0.
  """
  x = prefix_hash ^ (code.astype(jnp.uint32) + np.uint32(1))
  x = x * np.uint32(0x9E3779B1)
  x = (x ^ (x >> 15)) * np.uint32(0x85EBCA6B)
  return x ^ (x >> 13)


def _first_row(
  prefix_hash: UInt32[Array, '*b'], num_rows: int
) -> Int[Array, '*b']:
  return (prefix_hash % np.uint32(num_rows)).astype(jnp.int32)
