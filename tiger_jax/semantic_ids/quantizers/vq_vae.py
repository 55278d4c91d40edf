"""The VQ-VAE: one codebook for all parts of a learned latent space.

Section 4.2 of the paper tries it instead of the RQ-VAE. The latent vector is
split into one part per level, and the same codebook quantizes every part. No
level refines another, so the codes have no hierarchy.
"""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int

from tiger_jax.semantic_ids.quantizers import product, residual
from tiger_jax.semantic_ids.quantizers.autoencoder import Autoencoder
from tiger_jax.semantic_ids.quantizers.residual import Quantized


class VqVae(NamedTuple):
  """A `Quantizer` with one codebook for all levels."""

  autoencoder: Autoencoder
  codebooks: tuple[Float[Array, 'v z'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(len(codebook) for codebook in self._per_level)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    return self.quantize(self.autoencoder.encode(x)).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the squared distances from one latent part to the codes."""
    z = self.autoencoder.encode(x)
    return product.distances(z, self._per_level, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Decodes the first 1, 2, ... parts.

    The parts of the remaining codes are the mean of the codebook.
    """
    z = product.partial_vectors(codes, self._per_level)
    return self.autoencoder.embed(z)

  @staticmethod
  def latent_dim(code_dim: int, num_levels: int) -> int:
    """Returns the width of the latent space: one part per level."""
    return code_dim * num_levels

  @staticmethod
  def fit_codebooks(
    rng: jax.Array, z: Float[Array, 'items _'], sizes: tuple[int, ...]
  ) -> tuple[Float[Array, 'v z'], ...]:
    """Fits the codebook to all parts of latent vectors by k-means."""
    parts = product.parts(z, len(sizes))
    return residual.fit_codebooks(
      rng, parts.reshape(-1, parts.shape[-1]), sizes[:1]
    )

  def quantize(self, z: Float[Array, 'b _']) -> Quantized:
    """Quantizes latent vectors."""
    return product.quantize(z, self._per_level)

  def assignments(
    self, quantized: Quantized
  ) -> list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]:
    """Returns the assigned codes, and the vectors that they quantize."""
    parts = quantized.residuals
    vectors = parts.reshape(-1, parts.shape[-1])
    return [(quantized.codes.reshape(-1), vectors)]

  @property
  def _per_level(self) -> tuple[Array, ...]:
    codebook = self.codebooks[0]
    return (codebook,) * (self.autoencoder.latent_dim // codebook.shape[1])


def refused_sizes(sizes: tuple[int, ...]) -> str | None:
  """Returns the problem with codebook sizes, or None."""
  if len(set(sizes)) > 1:
    return 'vq_vae has one codebook for all levels: choose equal sizes'
  return None
