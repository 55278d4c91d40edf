"""Residual quantization: every level codes what the levels before left over.

Section 3.1 of the paper. With r_0 = z, level d picks the code e_d nearest to
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
  """What `quantize` found.

  Attributes:
    codes: The code chosen at every level `[b, l]`.
    quantized: The sum of the chosen codes' vectors `[b, z]`.
    residuals: What every level was given to quantize `[b, l, z]`; the first
      is the input itself.
  """

  codes: Int[Array, 'b l']
  quantized: Float[Array, 'b z']
  residuals: Float[Array, 'b l z']


def quantize(
  x: Float[Array, 'b z'], codebooks: tuple[Float[Array, '_ z'], ...]
) -> Quantized:
  """Gives each vector one code per level.

  Gradients pass from the residuals to `x` and never to `codebooks`: a residual
  moves no code of an earlier level.

  Args:
    x: Vectors to quantize.
    codebooks: One codebook per level, coarse to fine.

  Returns:
    The codes, the vector they stand for, and the residuals on the way.
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
  """Tells how far the codes of a level are from what is left to quantize.

  Args:
    x: Vectors to quantize.
    codebooks: One codebook per level, coarse to fine.
    codes: Those of the levels before `level` are taken off.
    level: Counted from 0.

  Returns:
    The squared distance to every code.
  """
  for codebook, code in zip(codebooks[:level], codes.T, strict=False):
    x = x - codebook[code]
  return kmeans.squared_distances(x, codebooks[level])


def fit_codebooks(
  rng: jax.Array, x: Float[Array, 'items z'], sizes: tuple[int, ...]
) -> tuple[Float[Array, '_ z'], ...]:
  """Finds codebooks by k-means, level by level on the residuals.

  Args:
    rng: The key of the seedings.
    x: Vectors to quantize well.
    sizes: Codes in each codebook, at most as many as there are vectors.

  Returns:
    The codebooks.

  Raises:
    UsageError: There are fewer vectors than codes.
  """
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
