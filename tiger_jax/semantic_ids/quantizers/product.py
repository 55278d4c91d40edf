"""Product quantization: a vector is cut into parts, one code for each.

Jegou et al., Product Quantization for Nearest Neighbor Search, 2011.
"""

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.semantic_ids.quantizers import kmeans
from tiger_jax.semantic_ids.quantizers.residual import Quantized


def parts(x: Float[Array, 'b _'], num_levels: int) -> Float[Array, 'b l z']:
  """Cuts vectors into parts of equal width, one per level."""
  return x.reshape(len(x), num_levels, -1)


def quantize(
  x: Float[Array, 'b _'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Quantized:
  """Gives each part of each vector a code; the parts are the residuals."""
  cut = parts(x, len(codebooks))
  codes = jnp.stack(
    [kmeans.nearest(cut[:, i], c)[0] for i, c in enumerate(codebooks)], axis=1
  )
  chosen = lax.stop_gradient(vectors(codes, codebooks))
  return Quantized(codes, chosen.reshape(x.shape), cut)


def vectors(
  codes: Int[Array, 'b l'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Float[Array, 'b l z']:
  """Returns the vectors of codes."""
  return jnp.stack(
    [c[code] for c, code in zip(codebooks, codes.T, strict=True)], axis=1
  )


def distances(
  x: Float[Array, 'b _'], codebooks: tuple[Float[Array, '_ z'], ...], level: int
) -> Float[Array, 'b v']:
  """Returns the squared distance of a part to every code of its level."""
  part = parts(x, len(codebooks))[:, level]
  return kmeans.squared_distances(part, codebooks[level])


def partial_vectors(
  codes: Int[Array, 'b l'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Float[Array, 'b l _']:
  """Returns the whole vectors that the first 1, 2, ... codes stand for.

  A part that is not known yet is its codebook's mean.
  """
  num_levels = len(codebooks)
  means = jnp.stack([c.mean(axis=0) for c in codebooks])
  known = jnp.tril(jnp.ones((num_levels, num_levels), bool))
  filled = jnp.where(
    known[None, :, :, None],
    vectors(codes, codebooks)[:, None],
    means[None, None],
  )
  return filled.reshape(len(codes), num_levels, -1)
