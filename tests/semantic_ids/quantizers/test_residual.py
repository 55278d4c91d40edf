"""Tests residual quantization and its codebooks, in part with slow NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.semantic_ids.quantizers import residual


def _slow_quantize(x, codebooks):
  codes = np.zeros((len(x), len(codebooks)), np.int64)
  quantized = np.zeros_like(x)
  residuals = np.zeros((len(x), len(codebooks), x.shape[1]))
  for i, vector in enumerate(x):
    remainder = vector.copy()
    for level, codebook in enumerate(codebooks):
      residuals[i, level] = remainder
      distances = [np.sum((remainder - code) ** 2) for code in codebook]
      codes[i, level] = int(np.argmin(distances))
      quantized[i] += codebook[codes[i, level]]
      remainder = remainder - codebook[codes[i, level]]
  return codes, quantized, residuals


@pytest.mark.parametrize('num_levels', [1, 3])
def test_quantize_equals_slow_numpy(num_levels):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 6))
  codebooks = rng.normal(size=(num_levels, 9, 6))
  result = residual.quantize(
    jnp.asarray(x, jnp.float32), tuple(jnp.asarray(codebooks, jnp.float32))
  )
  codes, quantized, residuals = _slow_quantize(x, codebooks)
  np.testing.assert_array_equal(result.codes, codes)
  np.testing.assert_allclose(result.quantized, quantized, atol=1e-5)
  np.testing.assert_allclose(result.residuals, residuals, atol=1e-5)


def test_residual_norm_falls_with_every_level():
  x = jax.random.normal(jax.random.key(0), (400, 8))
  codebooks = residual.fit_codebooks(jax.random.key(1), x, (16,) * 4)
  result = residual.quantize(x, codebooks)
  residuals = jnp.concatenate(
    [result.residuals, (x - result.quantized)[:, None]], axis=1
  )
  norms = np.asarray(jnp.sum(residuals**2, axis=-1).mean(axis=0))
  assert (np.diff(norms) < 0).all()


def test_planted_codebooks_are_recovered():
  coarse = jnp.asarray(np.eye(4) * 100, jnp.float32)
  fine = jnp.asarray(np.eye(4)[:3] - np.eye(4)[1:], jnp.float32)
  pairs = np.stack(np.meshgrid(np.arange(4), np.arange(3)), -1).reshape(-1, 2)
  x = coarse[pairs[:, 0]] + fine[pairs[:, 1]]
  codebooks = residual.fit_codebooks(jax.random.key(0), x, (4, 4))
  result = residual.quantize(x, codebooks)
  np.testing.assert_allclose(result.quantized, x, atol=1e-4)


def test_residuals_pass_no_gradient_to_codebooks():
  x = jax.random.normal(jax.random.key(0), (10, 4))
  codebooks = tuple(jax.random.normal(jax.random.key(1), (3, 5, 4)))
  gradient = jax.grad(
    lambda codebooks: jnp.sum(residual.quantize(x, codebooks).residuals ** 2)
  )(codebooks)
  assert not any(level.any() for level in gradient)
