"""RQ-KMeans against slow NumPy and faiss."""

import faiss
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import kmeans, rq_kmeans


def _error(x, quantizer):
  made = quantizer.reconstruct(quantizer.codes(jnp.asarray(x)))[:, -1]
  return float(np.sum((x - np.asarray(made)) ** 2, axis=1).mean())


def _faiss_error(x, num_levels, num_bits):
  quantizer = faiss.ResidualQuantizer(x.shape[1], num_levels, num_bits)
  quantizer.max_beam_size = 1
  quantizer.train(x)
  made = quantizer.decode(quantizer.compute_codes(x))
  return float(np.sum((x - made) ** 2, axis=1).mean())


def _embeddings(num_items, dim):
  x = np.random.default_rng(0).normal(size=(num_items, dim))
  return (x * 0.8 ** np.arange(dim)).astype(np.float32)


def test_equals_slow_numpy():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(15, 4)).astype(np.float32)
  codebooks = [rng.normal(size=(v, 4)).astype(np.float32) for v in (5, 3, 6)]
  quantizer = rq_kmeans.RqKmeans(
    jnp.zeros(4), tuple(map(jnp.asarray, codebooks))
  )
  assert isinstance(quantizer, Quantizer)
  assert quantizer.level_sizes == (5, 3, 6)
  codes = quantizer.codes(jnp.asarray(x))
  made = np.asarray(quantizer.reconstruct(codes))
  for i, left in enumerate(x):
    for level, codebook in enumerate(codebooks):
      expected = [np.sum((left - code) ** 2) for code in codebook]
      found = quantizer.distances(jnp.asarray(x), codes, level)[i]
      np.testing.assert_allclose(found, expected, atol=1e-5)
      assert codes[i, level] == np.argmin(expected)
      left = left - codebook[np.argmin(expected)]
      np.testing.assert_allclose(x[i] - made[i, level], left, atol=1e-5)


def test_distances_follow_the_codes_given():
  codebooks = (jnp.asarray([[0.0], [10.0]]), jnp.asarray([[0.0], [1.0], [2.0]]))
  quantizer = rq_kmeans.RqKmeans(jnp.zeros(1), codebooks)
  x = jnp.asarray([[12.0], [12.0]])
  found = quantizer.distances(x, jnp.asarray([[1, 0], [0, 0]]), 1)
  np.testing.assert_allclose(found, [[4, 1, 0], [144, 121, 100]])


def test_is_as_good_as_faiss():
  # With so few codes, seeds alone move the error by a few percent.
  x = _embeddings(1500, 12)
  fits = [rq_kmeans.fit(jax.random.key(i), x, (16, 16, 16)) for i in range(5)]
  ours = np.median([_error(x, fit) for fit in fits])
  assert ours <= 1.03 * _faiss_error(x, 3, 4)


@pytest.mark.slow
def test_is_as_good_as_faiss_on_beauty(data_root):
  name = 'amazon2014_beauty.all-MiniLM-L6-v2.float16.npy'
  x = np.load(data_root / 'embeddings' / name).astype(np.float32)
  ours = _error(x, rq_kmeans.fit(jax.random.key(0), x, (256, 256, 256)))
  assert ours <= 1.02 * _faiss_error(x, 3, 8)


def test_takes_half_floats_duplicates_and_constant_dimensions():
  x = np.repeat(_embeddings(40, 6), 3, axis=0).astype(np.float16)
  x[:, 2] = 7
  quantizer = rq_kmeans.fit(jax.random.key(0), x, (32, 64))
  assert quantizer.level_sizes == (32, 64)
  # As many codes on the second level as different residuals: nothing is left.
  assert _error(x.astype(np.float32), quantizer) < 1e-6


def test_fits_to_no_more_than_a_sample(monkeypatch):
  x = _embeddings(300, 6)
  monkeypatch.setattr(kmeans, 'MAX_ITEMS', 8)
  quantizer = rq_kmeans.fit(jax.random.key(0), x, (8,))
  centroids = np.asarray(quantizer.codebooks[0] + quantizer.mean[None])
  gaps = np.abs(centroids[:, None] - x[None]).max(axis=-1)
  np.testing.assert_allclose(gaps.min(axis=1), 0, atol=1e-5)


def test_a_constant_dimension_changes_nothing():
  x = np.pad(_embeddings(300, 6), ((0, 0), (0, 1)))
  far = x + np.float32([0] * 6 + [3e4])
  near, moved = (rq_kmeans.fit(jax.random.key(0), y, (8, 8)) for y in (x, far))
  np.testing.assert_array_equal(
    near.codes(jnp.asarray(x)), moved.codes(jnp.asarray(far))
  )


def test_fewer_items_than_codes_is_one_line():
  with pytest.raises(UsageError, match='8 codes from 5 items'):
    rq_kmeans.fit(jax.random.key(0), np.ones((5, 3), np.float16), (4, 8))
