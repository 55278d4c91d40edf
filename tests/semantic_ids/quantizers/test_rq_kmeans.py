"""Tests RQ-KMeans against slow NumPy and faiss."""

import faiss
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import rq_kmeans


def _error(x, quantizer):
  x_hat = quantizer.reconstruct(quantizer.codes(jnp.asarray(x)))[:, -1]
  return float(np.sum((x - np.asarray(x_hat)) ** 2, axis=1).mean())


def _faiss_error(x, num_levels, num_bits):
  quantizer = faiss.ResidualQuantizer(x.shape[1], num_levels, num_bits)
  quantizer.max_beam_size = 1
  quantizer.train(x)
  x_hat = quantizer.decode(quantizer.compute_codes(x))
  return float(np.sum((x - x_hat) ** 2, axis=1).mean())


def _embeddings(num_items, dim):
  x = np.random.default_rng(0).normal(size=(num_items, dim))
  return (x * 0.8 ** np.arange(dim)).astype(np.float32)


def test_rq_kmeans_equals_slow_numpy():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(15, 4)).astype(np.float32)
  codebooks = [rng.normal(size=(v, 4)).astype(np.float32) for v in (5, 3, 6)]
  quantizer = rq_kmeans.RqKmeans(
    jnp.zeros(4), tuple(map(jnp.asarray, codebooks))
  )
  assert isinstance(quantizer, Quantizer)
  assert quantizer.level_sizes == (5, 3, 6)
  codes = quantizer.codes(jnp.asarray(x))
  x_hat = np.asarray(quantizer.reconstruct(codes))
  for i, residual in enumerate(x):
    for level, codebook in enumerate(codebooks):
      expected = [np.sum((residual - code) ** 2) for code in codebook]
      distances = quantizer.distances(jnp.asarray(x), codes, level)[i]
      np.testing.assert_allclose(distances, expected, atol=1e-5)
      assert codes[i, level] == np.argmin(expected)
      residual = residual - codebook[np.argmin(expected)]
      np.testing.assert_allclose(x[i] - x_hat[i, level], residual, atol=1e-5)


def test_distances_depend_on_the_given_codes():
  codebooks = (jnp.asarray([[0.0], [10.0]]), jnp.asarray([[0.0], [1.0], [2.0]]))
  quantizer = rq_kmeans.RqKmeans(jnp.zeros(1), codebooks)
  x = jnp.asarray([[12.0], [12.0]])
  distances = quantizer.distances(x, jnp.asarray([[1, 0], [0, 0]]), 1)
  np.testing.assert_allclose(distances, [[4, 1, 0], [144, 121, 100]])


def test_is_as_good_as_faiss():
  # With 16 codes, the seed changes the error by a few percent.
  x = _embeddings(1500, 12)
  fits = [rq_kmeans.fit(jax.random.key(i), x, (16, 16, 16)) for i in range(5)]
  error = np.median([_error(x, fit) for fit in fits])
  assert error <= 1.03 * _faiss_error(x, 3, 4)


@pytest.mark.slow
def test_is_as_good_as_faiss_on_beauty(data_root):
  name = 'amazon2014_beauty.all-MiniLM-L6-v2.float16.npy'
  x = np.load(data_root / 'embeddings' / name).astype(np.float32)
  error = _error(x, rq_kmeans.fit(jax.random.key(0), x, (256, 256, 256)))
  assert error <= 1.02 * _faiss_error(x, 3, 8)


def test_fits_float16_duplicates_and_constant_dimensions():
  x = np.repeat(_embeddings(40, 6), 3, axis=0).astype(np.float16)
  x[:, 2] = 7
  quantizer = rq_kmeans.fit(jax.random.key(0), x, (32, 64))
  assert quantizer.level_sizes == (32, 64)
  # The second level has a code for every distinct residual.
  assert _error(x.astype(np.float32), quantizer) < 1e-6


def test_fits_to_a_sample_of_the_items():
  x = _embeddings(300, 6)
  quantizer = rq_kmeans.fit(jax.random.key(0), x, (8,), max_items=8)
  centroids = np.asarray(quantizer.codebooks[0] + quantizer.mean[None])
  gaps = np.abs(centroids[:, None] - x[None]).max(axis=-1)
  np.testing.assert_allclose(gaps.min(axis=1), 0, atol=1e-5)


def test_large_constant_dimensions_do_not_change_the_codes():
  x = np.pad(_embeddings(300, 6), ((0, 0), (0, 1)))
  shifted_x = x + np.float32([0] * 6 + [3e4])
  quantizer, shifted = (
    rq_kmeans.fit(jax.random.key(0), y, (8, 8)) for y in (x, shifted_x)
  )
  np.testing.assert_array_equal(
    quantizer.codes(jnp.asarray(x)), shifted.codes(jnp.asarray(shifted_x))
  )


def test_refuses_fewer_items_than_codes():
  with pytest.raises(UsageError, match='8 codes from 5 items'):
    rq_kmeans.fit(jax.random.key(0), np.ones((5, 3), np.float16), (4, 8))
