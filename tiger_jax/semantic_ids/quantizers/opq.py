"""Optimized product quantization: a rotation, then a code for each part.

Ge et al., Optimized Product Quantization, 2013. The codes are not ordered
from coarse to fine.
"""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.quantizers import kmeans, product

_KMEANS_ITERATIONS = 10
_NUM_ROTATIONS = 30


class Opq(NamedTuple):
  """Implements `Quantizer`, which documents the methods.

  Attributes:
    mean: Mean of the embeddings.
    rotation: Matrix with orthonormal rows that multiplies centered embeddings.
      Its number of columns is rounded up to a multiple of the number of levels.
    codebooks: One codebook for each part.
  """

  mean: Float[Array, ' dim']
  rotation: Float[Array, 'dim _']
  codebooks: tuple[Float[Array, '_ z'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(len(codebook) for codebook in self.codebooks)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    return product.quantize(self._rotate(x), self.codebooks).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the squared distances from one part to the codes of its level."""
    return product.distances(self._rotate(x), self.codebooks, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Reconstructs embeddings from the first 1, 2, ... codes.

    The parts of the remaining codes are the means of their codebooks.
    """
    rotated = product.partial_vectors(codes, self.codebooks)
    x = jnp.einsum('blz,dz->bld', rotated, self.rotation, precision='highest')
    return x + self.mean[None, None]

  def _rotate(self, x):
    return _rotate(x - self.mean[None], self.rotation)


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
  *,
  max_items: int = kmeans.MAX_ITEMS,
) -> Opq:
  """Finds a rotation and codebooks that reconstruct embeddings well.

  If there are more than `max_items` items, they are fitted to a sample.

  Raises:
    UsageError: There are fewer items than codes, or fewer dimensions than
      levels.
  """
  if embeddings.shape[1] < len(sizes):
    raise UsageError(
      f'opq cannot split vectors of width {embeddings.shape[1]} into '
      f'{len(sizes)} parts: set config.semantic_ids.codebook_sizes to fewer '
      'levels'
    )
  x = item_batches.sample(embeddings, max_items)
  mean, _ = item_batches.statistics(x)
  x = jnp.asarray(x - mean)
  rotation = _principal_rotation(x, len(sizes))
  parts = product.parts(_rotate(x, rotation), len(sizes))
  codebooks = tuple(
    kmeans.fit(rng_level, parts[:, level], size, _KMEANS_ITERATIONS)
    for level, (rng_level, size) in enumerate(
      zip(jax.random.split(rng, len(sizes)), sizes, strict=True)
    )
  )
  rotation, codebooks = _alternate(x, rotation, codebooks)
  return Opq(jnp.asarray(mean), rotation, codebooks)


def _rotate(x, rotation):
  return jnp.einsum('bd,dz->bz', x, rotation, precision='highest')


def _principal_rotation(x, num_levels):
  """Assigns principal axes to parts of about equal variance.

  Eigenvalue allocation, section 3.2.2 of Ge et al.: the axis with the largest
  remaining variance goes to the part with the smallest product of variances,
  among the parts that are not full.
  """
  dim = x.shape[1]
  variances, axes = map(np.asarray, _principal_axes(x))
  part_dim = math.ceil(dim / num_levels)
  # Products must not shrink, so variances are scaled to at least 1. Variances
  # below the precision of float32 count as 1.
  largest = variances.max()
  gains = np.log(np.maximum(variances / (largest or 1), 1e-6)) + np.log(1e6)
  log_products, num_axes = np.zeros(num_levels), np.zeros(num_levels, np.int64)
  rotation = np.zeros((dim, num_levels * part_dim), np.float32)
  for axis in reversed(range(dim)):
    part = np.argmin(np.where(num_axes < part_dim, log_products, np.inf))
    rotation[:, part * part_dim + num_axes[part]] = axes[:, axis]
    log_products[part] += gains[axis]
    num_axes[part] += 1
  return jnp.asarray(rotation)


@jax.jit
def _principal_axes(x):
  covariance = jnp.einsum('bd,be->de', x, x, precision='highest') / len(x)
  return jnp.linalg.eigh(covariance)


@functools.partial(jax.jit, donate_argnums=(1, 2))
def _alternate(x, rotation, codebooks):
  """Optimizes the codebooks and the rotation alternately."""

  def improve(_, carry):
    rotation, codebooks = carry
    rotated = _rotate(x, rotation)
    parts = product.parts(rotated, len(codebooks))
    codebooks = tuple(
      kmeans.lloyd(parts[:, level], codebook, len(x), len(codebook))
      for level, codebook in enumerate(codebooks)
    )
    quantized = product.quantize(rotated, codebooks).quantized
    # The orthogonal Procrustes problem.
    u, _, v = jnp.linalg.svd(
      jnp.einsum('bd,bz->dz', x, quantized, precision='highest'),
      full_matrices=False,
    )
    return jnp.einsum('de,ez->dz', u, v, precision='highest'), codebooks

  return lax.fori_loop(0, _NUM_ROTATIONS, improve, (rotation, codebooks))
