"""RQ-KMeans: residual quantization of the embeddings without an autoencoder."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.quantizers import kmeans, product, residual


class RqKmeans(NamedTuple):
  """A `Quantizer` with one codebook per level, coarse to fine.

  The mean of the embeddings is subtracted from them, because products of
  centered vectors have the smallest rounding errors.
  """

  mean: Float[Array, ' dim']
  codebooks: tuple[Float[Array, '_ dim'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return tuple(len(codebook) for codebook in self.codebooks)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Returns the codes of embeddings."""
    return residual.quantize(x - self.mean[None], self.codebooks).codes

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the squared distances from the residual to the codes."""
    x = x - self.mean[None]
    return residual.distances(x, self.codebooks, codes, level)

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Sums the vectors of the first 1, 2, ... codes."""
    vectors = product.vectors(codes, self.codebooks)
    return jnp.cumsum(vectors, axis=1) + self.mean[None, None]


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
  *,
  max_items: int = kmeans.MAX_ITEMS,
) -> RqKmeans:
  """Fits codebooks by k-means, level by level on the residuals.

  If there are more than `max_items` items, they are fitted to a sample.
  """
  x = item_batches.sample(embeddings, max_items)
  mean, _ = item_batches.statistics(x)
  codebooks = residual.fit_codebooks(rng, jnp.asarray(x - mean), sizes)
  return RqKmeans(jnp.asarray(mean), codebooks)
