"""Tests OPQ against slow NumPy and faiss."""

import faiss
import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import opq


def _correlated(num_items, dim):
  """Draws randomly rotated clusters with few large principal axes."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(num_items, dim))
  x += 2 * rng.normal(size=(30, dim))[rng.integers(30, size=num_items)]
  rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
  scales = 0.7 ** np.arange(dim)
  return ((x * scales) @ rotation + 5).astype(np.float32)


def _error(x, quantizer):
  x_hat = quantizer.reconstruct(quantizer.codes(jnp.asarray(x)))[:, -1]
  return float(np.sum((x - np.asarray(x_hat)) ** 2, axis=1).mean())


def _faiss_error(x, num_levels, num_bits, rotate=True):
  x = x - x.mean(axis=0)
  quantizer = faiss.ProductQuantizer(x.shape[1], num_levels, num_bits)
  if rotate:
    rotation = faiss.OPQMatrix(x.shape[1], num_levels)
    rotation.pq = quantizer
    rotation.train(x)
    x = rotation.apply(x)
  quantizer.train(x)
  x_hat = quantizer.decode(quantizer.compute_codes(x))
  return float(np.sum((x - x_hat) ** 2, axis=1).mean())


@pytest.mark.parametrize('dim, num_levels', [(12, 3), (10, 3), (5, 1)])
def test_opq_equals_slow_numpy(dim, num_levels):
  x = _correlated(200, dim)
  sizes = (6, 4, 3)[:num_levels]
  quantizer = opq.fit(jax.random.key(0), x, sizes)
  assert isinstance(quantizer, Quantizer)
  assert quantizer.level_sizes == sizes
  mean, rotation = np.asarray(quantizer.mean), np.asarray(quantizer.rotation)
  np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-5)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(dim), atol=1e-5)

  x = x[:20]
  codes = np.asarray(quantizer.codes(jnp.asarray(x)))
  x_hat = quantizer.reconstruct(jnp.asarray(codes))
  rotated = (x - mean) @ rotation
  quantized = np.concatenate([c.mean(axis=0) for c in quantizer.codebooks])
  quantized = np.tile(quantized, (20, 1))
  start = 0
  for level, codebook in enumerate(map(np.asarray, quantizer.codebooks)):
    part = slice(start, start + codebook.shape[1])
    expected = np.array([
      [np.sum((vector - code) ** 2) for code in codebook]
      for vector in rotated[:, part]
    ])  # fmt: skip
    distances = quantizer.distances(jnp.asarray(x), jnp.asarray(codes), level)
    np.testing.assert_allclose(distances, expected, atol=1e-3)
    np.testing.assert_array_equal(codes[:, level], expected.argmin(axis=1))
    quantized[:, part] = codebook[codes[:, level]]
    expected = quantized @ rotation.T + mean
    np.testing.assert_allclose(x_hat[:, level], expected, atol=1e-4)
    start = part.stop
  assert start == rotation.shape[1]


def test_is_as_good_as_faiss():
  x = _correlated(1500, 16)
  error = _error(x, opq.fit(jax.random.key(0), x, (16,) * 4))
  assert error <= 1.03 * _faiss_error(x, 4, 4)
  # The rotation matters for these items.
  assert error < 0.8 * _faiss_error(x, 4, 4, rotate=False)


def test_planted_rotation_is_recovered():
  # Each item has four parts, and each part is one of four points. A random
  # rotation then mixes the parts. The shapes are those of the test above, so
  # that its programs are used again.
  rng = np.random.default_rng(1)
  codes = rng.integers(4, size=(1500, 4))
  points = rng.normal(size=(4, 4, 4)) * np.array([4, 3, 2, 1])[:, None, None]
  x = np.concatenate([points[i, codes[:, i]] for i in range(4)], axis=1)
  rotation, _ = np.linalg.qr(rng.normal(size=(16, 16)))
  x = (x @ rotation).astype(np.float32)
  quantizer = opq.fit(jax.random.key(0), x, (16,) * 4)
  assert _error(x, quantizer) < 0.02 * x.var(axis=0).sum()


# The next three tests fit to 16 items of width 6, so that they share programs.
def test_fits_float16_duplicates_and_constant_dimensions():
  x = np.repeat(_correlated(8, 6), 2, axis=0).astype(np.float16)
  x[:, 1:5] = 7
  quantizer = opq.fit(jax.random.key(0), x, (16, 16))
  rotation = np.asarray(quantizer.rotation)
  np.testing.assert_allclose(rotation @ rotation.T, np.eye(6), atol=1e-5)
  assert _error(x.astype(np.float32), quantizer) < 1e-5


def test_fits_equal_items():
  x = np.full((16, 6), 3, np.float32)
  quantizer = opq.fit(jax.random.key(0), x, (16, 16))
  assert _error(x, quantizer) < 1e-9


def test_fits_to_a_sample_of_the_items():
  x = _correlated(300, 6)
  quantizer = opq.fit(jax.random.key(0), x, (16, 16), max_items=16)
  x_hat = quantizer.reconstruct(quantizer.codes(jnp.asarray(x)))[:, -1]
  gaps = np.abs(x - np.asarray(x_hat)).max(axis=1)
  assert (gaps < 1e-4).sum() == 16


def test_refuses_fewer_items_than_codes():
  with pytest.raises(UsageError, match='8 codes from 5 items'):
    opq.fit(jax.random.key(0), np.ones((5, 4), np.float16), (4, 8))


def test_lowers_for_every_platform():
  platforms = ('cpu', 'cuda', 'tpu')
  x, part = jnp.zeros((50, 10)), jnp.zeros((4, 5))
  for fn, args in [
    (opq._principal_axes, (x,)),
    (opq._alternate, (x, jnp.eye(10), (part, part))),
  ]:
    assert export.export(fn, platforms=platforms)(*args).platforms == platforms
