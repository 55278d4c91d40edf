"""The RQ-VAE: residual quantization of a learnt latent space.

Section 3.1 of the paper; `AutoencoderTask` trains it.
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
    """How many codes each level has."""
    return tuple(len(codebook) for codebook in self.codebooks)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Gives embeddings their codes."""
    return self.quantize(self.autoencoder.encode(x)).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Tells how far every code of a level is, in the latent space."""
    z = self.autoencoder.encode(x)
    return residual.distances(z, self.codebooks, codes, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Decodes the sums of the first 1, 2, ... codes' vectors."""
    vectors = product.vectors(codes, self.codebooks)
    return self.autoencoder.embed(jnp.cumsum(vectors, axis=1))

  @staticmethod
  def latent_dim(code_dim: int, num_levels: int) -> int:
    """Returns the width of the latent space: that of a code."""
    return code_dim

  fit_codebooks = staticmethod(residual.fit_codebooks)

  def quantize(self, z: Float[Array, 'b z']) -> Quantized:
    """Gives latent vectors their codes."""
    return residual.quantize(z, self.codebooks)

  def uses(
    self, found: Quantized
  ) -> list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]:
    """Returns, for each codebook, the codes it gave and to which vectors."""
    return [
      (found.codes[:, level], found.residuals[:, level])
      for level in range(len(self.codebooks))
    ]
