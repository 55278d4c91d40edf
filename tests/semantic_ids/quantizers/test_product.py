"""Tests product quantization against slow NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.semantic_ids.quantizers import product

# The sizes of the codebooks, for parts of two dimensions.
_SIZES = (5, 3, 7)


@pytest.fixture(name='codebooks')
def _codebooks():
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(v, 2)).astype(np.float32) for v in _SIZES)


@pytest.fixture(name='x')
def _x():
  return np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)


def _slow_distances(x, codebooks, level):
  part = x[:, 2 * level : 2 * level + 2]
  return np.array([
    [np.sum((vector - code) ** 2) for code in codebooks[level]]
    for vector in part
  ])  # fmt: skip


def _slow_codes(x, codebooks):
  return np.stack(
    [_slow_distances(x, codebooks, i).argmin(axis=1) for i in range(3)], axis=1
  )


def test_quantize_equals_slow_numpy(x, codebooks):
  result = product.quantize(jnp.asarray(x), _on_device(codebooks))
  codes = _slow_codes(x, codebooks)
  np.testing.assert_array_equal(result.codes, codes)
  quantized = [
    np.concatenate([codebooks[i][row[i]] for i in range(3)]) for row in codes
  ]
  np.testing.assert_array_equal(result.quantized, quantized)
  np.testing.assert_array_equal(np.reshape(result.residuals, (20, 6)), x)


@pytest.mark.parametrize('level', range(3))
def test_distances_equal_slow_numpy(x, codebooks, level):
  distances = product.distances(jnp.asarray(x), _on_device(codebooks), level)
  expected = _slow_distances(x, codebooks, level)
  np.testing.assert_allclose(distances, expected, atol=1e-5)


def test_partial_vectors_equal_numpy(codebooks):
  codes = np.array([[4, 0, 6], [1, 2, 3]], np.int32)
  vectors = product.partial_vectors(jnp.asarray(codes), _on_device(codebooks))
  means = [codebook.mean(axis=0) for codebook in codebooks]
  for item, (a, b, c) in enumerate(codes):
    for row, expected in enumerate(
      [
        [codebooks[0][a], means[1], means[2]],
        [codebooks[0][a], codebooks[1][b], means[2]],
        [codebooks[0][a], codebooks[1][b], codebooks[2][c]],
      ]
    ):
      np.testing.assert_allclose(
        vectors[item, row], np.concatenate(expected), atol=1e-6
      )


def test_codebooks_get_no_gradient(x, codebooks):
  gradient = jax.grad(
    lambda c: jnp.sum(product.quantize(jnp.asarray(x), c).quantized ** 2)
  )(_on_device(codebooks))
  assert not any(g.any() for g in gradient)


def _on_device(codebooks):
  return tuple(map(jnp.asarray, codebooks))
