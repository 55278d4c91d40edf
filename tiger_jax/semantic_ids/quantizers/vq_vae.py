"""The VQ-VAE: one codebook for all parts of a learnt latent space.

Section 4.2 of the paper tries it in place of the RQ-VAE. The latent vector is
cut into one part per level, and every part is coded with the same codebook;
no level refines another, so the codes have no hierarchy.
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
    """How many codes each level has."""
    return tuple(len(codebook) for codebook in self._per_level)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Gives embeddings their codes."""
    return self.quantize(self.autoencoder.encode(x)).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Tells how far every code is from a part of the latent vector."""
    z = self.autoencoder.encode(x)
    return product.distances(z, self._per_level, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Decodes the first 1, 2, ... parts, the others at the codes' mean."""
    z = product.partial_vectors(codes, self._per_level)
    return self.autoencoder.embed(z)

  @staticmethod
  def latent_dim(code_dim: int, num_levels: int) -> int:
    """Returns the width of the latent space: that of all codes together."""
    return code_dim * num_levels

  @staticmethod
  def fit_codebooks(
    rng: jax.Array, z: Float[Array, 'items _'], sizes: tuple[int, ...]
  ) -> tuple[Float[Array, 'v z'], ...]:
    """Finds the codebook for all parts of latent vectors by k-means."""
    cut = product.parts(z, len(sizes))
    return residual.fit_codebooks(
      rng, cut.reshape(-1, cut.shape[-1]), sizes[:1]
    )

  def quantize(self, z: Float[Array, 'b _']) -> Quantized:
    """Gives latent vectors their codes."""
    return product.quantize(z, self._per_level)

  def uses(
    self, found: Quantized
  ) -> list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]:
    """Returns the codes that the codebook gave, and to which vectors."""
    vectors = found.residuals.reshape(-1, found.residuals.shape[-1])
    return [(found.codes.reshape(-1), vectors)]

  @property
  def _per_level(self) -> tuple[Array, ...]:
    codebook = self.codebooks[0]
    return (codebook,) * (self.autoencoder.latent_dim // codebook.shape[1])


def refused_sizes(sizes: tuple[int, ...]) -> str | None:
  """Returns what is wrong with codebook sizes; None if nothing is."""
  if len(set(sizes)) > 1:
    return 'vq_vae has one codebook for all levels, so give them one size'
  return None
