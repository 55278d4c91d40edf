"""Product quantization: splits a vector into parts with one code each.

Jegou et al., Product Quantization for Nearest Neighbor Search, 2011.
"""

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.semantic_ids.quantizers import kmeans
from tiger_jax.semantic_ids.quantizers.residual import Quantized


def parts(x: Float[Array, 'b _'], num_levels: int) -> Float[Array, 'b l z']:
  """Splits vectors into parts of equal width, one per level."""
  return x.reshape(len(x), num_levels, -1)


def quantize(
  x: Float[Array, 'b _'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Quantized:
  """Quantizes each part. The residuals of the result are the parts."""
  split = parts(x, len(codebooks))
  codes = jnp.stack(
    [kmeans.nearest(split[:, i], c)[0] for i, c in enumerate(codebooks)], axis=1
  )
  chosen = lax.stop_gradient(vectors(codes, codebooks))
  return Quantized(codes, chosen.reshape(x.shape), split)


def vectors(
  codes: Int[Array, 'b l'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Float[Array, 'b l z']:
  """Looks up the vector of each code."""
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
  """Returns the full vectors that the first 1, 2, ... codes represent.

  The parts of the remaining codes are the means of their codebooks.
  """
  num_levels = len(codebooks)
  means = jnp.stack([c.mean(axis=0) for c in codebooks])
  known = jnp.tril(jnp.ones((num_levels, num_levels), bool))
  full = jnp.where(
    known[None, :, :, None],
    vectors(codes, codebooks)[:, None],
    means[None, None],
  )
  return full.reshape(len(codes), num_levels, -1)
