"""The RQ-VAE: residual quantization of a learned latent space.

Section 3.1 of the paper. `AutoencoderTask` trains it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.semantic_ids.quantizers import product, residual
from tiger_jax.semantic_ids.quantizers.autoencoder import Autoencoder
from tiger_jax.semantic_ids.quantizers.residual import Quantized


class RqVae(NamedTuple):
  """A `Quantizer` with one codebook per level, coarse to fine."""

  autoencoder: Autoencoder
  codebooks: tuple[Float[Array, '_ z'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(len(codebook) for codebook in self.codebooks)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    return self.quantize(self.autoencoder.encode(x)).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the squared distances to the codes in the latent space."""
    z = self.autoencoder.encode(x)
    return residual.distances(z, self.codebooks, codes, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Decodes the sum of the vectors of the first 1, 2, ... codes."""
    vectors = product.vectors(codes, self.codebooks)
    return self.autoencoder.embed(jnp.cumsum(vectors, axis=1))

  @staticmethod
  def latent_dim(code_dim: int, num_levels: int) -> int:
    """Returns the width of the latent space: the width of a code vector."""
    return code_dim

  fit_codebooks = staticmethod(residual.fit_codebooks)

  def quantize(self, z: Float[Array, 'b z']) -> Quantized:
    """Quantizes latent vectors."""
    return residual.quantize(z, self.codebooks)

  def assignments(
    self, quantized: Quantized
  ) -> list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]:
    """Returns the codes of each codebook, and the vectors they quantize."""
    return [
      (quantized.codes[:, level], quantized.residuals[:, level])
      for level in range(len(self.codebooks))
    ]
