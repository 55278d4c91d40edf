"""Residual quantization: each level quantizes the residual of the level before.

Section 3.1 of the paper. With r_0 = z, level d chooses the code e_d nearest to
the residual r_d, and r_{d+1} = r_d - e_d.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.semantic_ids.quantizers import kmeans

_KMEANS_ITERATIONS = 30


class Quantized(NamedTuple):
  """The result of `quantize`.

  Attributes:
    codes: The code chosen at every level.
    quantized: The sum of the vectors of the chosen codes.
    residuals: The input of every level. The input of the first level is `x`.
  """

  codes: Int[Array, 'b l']
  quantized: Float[Array, 'b z']
  residuals: Float[Array, 'b l z']


def quantize(
  x: Float[Array, 'b z'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Quantized:
  """Gives each vector one code per level, coarse to fine.

  Gradients pass from the residuals to `x` but not to `codebooks`, so the loss
  of one level does not change the codebooks of earlier levels.
  """
  residual = x
  codes, residuals = [], []
  for codebook in codebooks:
    residuals.append(residual)
    codes.append(kmeans.nearest(residual, codebook)[0])
    residual = residual - lax.stop_gradient(codebook[codes[-1]])
  return Quantized(
    codes=jnp.stack(codes, axis=1),
    quantized=x - residual,
    residuals=jnp.stack(residuals, axis=1),
  )


def distances(
  x: Float[Array, 'b z'],
  codebooks: tuple[Float[Array, '_ z'], ...],
  codes: Int[Array, 'b l'],
  level: int,
) -> Float[Array, 'b v']:
  """Returns the squared distances from the residual to the codes of a level."""
  for codebook, code in zip(codebooks[:level], codes.T, strict=False):
    x = x - codebook[code]
  return kmeans.squared_distances(x, codebooks[level])


def fit_codebooks(
  rng: jax.Array, x: Float[Array, 'items z'], sizes: tuple[int, ...]
) -> tuple[Float[Array, '_ z'], ...]:
  """Fits codebooks by k-means, level by level on the residuals."""
  codebooks = []
  for rng_level, size in zip(
    jax.random.split(rng, len(sizes)), sizes, strict=True
  ):
    codebook = kmeans.fit(rng_level, x, size, _KMEANS_ITERATIONS)
    x = _residual(x, codebook)
    codebooks.append(codebook)
  return tuple(codebooks)


@jax.jit
def _residual(
  x: Float[Array, 'items z'], codebook: Float[Array, 'v z']
) -> Float[Array, 'items z']:
  return x - codebook[kmeans.nearest(x, codebook)[0]]
