"""Locality-sensitive hashing: a code has one bit for each of its hyperplanes.

Section 4.2 of the paper compares it with the RQ-VAE. Eight random hyperplanes
give one code, and an ID has four codes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.semantic_ids import item_batches


class Lsh(NamedTuple):
  """Implements `Quantizer`, which documents the methods.

  Attributes:
    mean: The point that all hyperplanes pass through.
    hyperplanes: The unit normals of each level's hyperplanes; the first one
      gives the lowest bit of a code.
  """

  mean: Float[Array, ' dim']
  hyperplanes: tuple[Float[Array, '_ dim'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(2 ** len(normals) for normals in self.hyperplanes)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    return jnp.stack(
      [
        jnp.sum(
          (self._margins(x, level) > 0) * 2 ** jnp.arange(len(normals))[None],
          axis=1,
        )
        for level, normals in enumerate(self.hyperplanes)
      ],
      axis=1,
    )

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the distance from each embedding to every code of a level.

    It is the sum of the squared distances from the embedding to the hyperplanes
    for which the embedding and the code have different bits.
    """
    margins = self._margins(x, level)
    num_planes = margins.shape[1]
    bits = jnp.arange(2**num_planes)[:, None] >> jnp.arange(num_planes)[None]
    above = (bits & 1).astype(x.dtype)
    # Bit 1 is wrong for an item below a plane, and bit 0 for an item above it.
    depth, height = jax.nn.relu(-margins), jax.nn.relu(margins)
    return jnp.einsum(
      'bp,vp->bv', depth**2, above, precision='highest'
    ) + jnp.einsum('bp,vp->bv', height**2, 1 - above, precision='highest')

  def reconstruct(self, codes: Int[Array, 'b l']) -> None:
    """Returns None, because the codes do not represent embeddings."""

  def _margins(self, x: Array, level: int) -> Float[Array, 'b _']:
    normals = self.hyperplanes[level]
    return jnp.einsum(
      'bd,pd->bp', x - self.mean[None], normals, precision='highest'
    )


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
) -> Lsh:
  """Draws the hyperplanes; `sizes` are powers of two."""
  # Departs from the paper: the planes of the paper pass through the origin, and
  # most text embeddings lie on one side of such planes. On Beauty, a level of
  # 256 codes then has a perplexity of 38 to 156. With planes through the mean,
  # its perplexity is 228 to 241.
  mean, _ = item_batches.statistics(embeddings)
  hyperplanes = []
  for rng_level, size in zip(
    jax.random.split(rng, len(sizes)), sizes, strict=True
  ):
    shape = (size.bit_length() - 1, embeddings.shape[1])
    normals = jax.random.normal(rng_level, shape)
    length = jnp.linalg.norm(normals, axis=1, keepdims=True)
    hyperplanes.append(normals / length)
  return Lsh(jnp.asarray(mean), tuple(hyperplanes))


def refused_sizes(sizes: tuple[int, ...]) -> str | None:
  """Returns the problem with codebook sizes, or None."""
  if any(size & (size - 1) for size in sizes):
    return 'lsh needs powers of two, because a code has one bit per hyperplane'
  return None
