"""Tests the contract of `Quantizer` for all quantizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers.autoencoder_task import AutoencoderTask
from tiger_jax.semantic_ids.quantizers.registry import QUANTIZERS

_SIZES = (4, 4, 4)


def _embeddings(num_items=80, seed=0):
  rng = np.random.default_rng(seed)
  centers = np.random.default_rng(99).normal(size=(6, 10))
  x = centers[rng.integers(6, size=num_items)]
  return (x + 0.4 * rng.normal(size=(num_items, 10))).astype(np.float32)


def _fit_autoencoder(model_class):
  def fit(rng, embeddings, sizes):
    config = SemanticIdsConfig(
      codebook_sizes=sizes, latent_dim=5, hidden_dims=(8,), batch_size=32
    )
    items = ItemBatches(embeddings, config.batch_size, seed=0)
    return AutoencoderTask(model_class, config, items).init(rng).model

  return fit


@pytest.fixture(name='name', scope='module', params=QUANTIZERS)
def _name(request):
  return request.param


@pytest.fixture(name='quantizer', scope='module')
def _quantizer(name):
  entry = QUANTIZERS[name]
  fit = entry.fit or _fit_autoencoder(entry.quantizer)
  return fit(jax.random.key(0), _embeddings(), _SIZES)


@jax.jit
def _codes(quantizer, x):
  return quantizer.codes(x)


def test_registry_has_the_class(name, quantizer):
  assert isinstance(quantizer, Quantizer)
  assert type(quantizer) is QUANTIZERS[name].quantizer


@pytest.mark.parametrize('seed', [0, 1])
def test_each_code_is_the_nearest_of_its_level(quantizer, seed):
  x = jnp.asarray(_embeddings(seed=seed))
  codes = _codes(quantizer, x)
  assert codes.shape == (80, 3)
  assert jnp.issubdtype(codes.dtype, jnp.integer)
  rows = np.arange(80)
  for level, size in enumerate(quantizer.level_sizes):
    distances = np.asarray(quantizer.distances(x, codes, level))
    assert distances.shape == (80, size)
    assert (distances >= 0).all()
    chosen = distances[rows, np.asarray(codes[:, level])]
    assert np.isfinite(chosen).all()
    np.testing.assert_allclose(
      chosen, distances.min(axis=1), rtol=1e-4, atol=1e-4
    )


def test_distances_ignore_later_codes(quantizer):
  x = jnp.asarray(_embeddings())
  codes = _codes(quantizer, x)
  for level in range(3):
    changed = codes.at[:, level:].set(0)
    np.testing.assert_array_equal(
      quantizer.distances(x, codes, level),
      quantizer.distances(x, changed, level),
    )


def test_items_do_not_affect_each_other(quantizer):
  x = jnp.asarray(_embeddings())
  codes = _codes(quantizer, x)
  np.testing.assert_array_equal(_codes(quantizer, x[::-1])[::-1], codes)
  np.testing.assert_array_equal(_codes(quantizer, x[5:6]), codes[5:6])


def test_reconstruction_error_falls_with_every_code(name, quantizer):
  x = _embeddings()
  codes = _codes(quantizer, jnp.asarray(x))
  x_hat = quantizer.reconstruct(codes)
  if x_hat is None:
    assert name in ('lsh', 'random')
    return
  assert x_hat.shape == (80, 3, 10)
  assert np.isfinite(x_hat).all()
  if QUANTIZERS[name].is_trained:
    return  # The decoder is not trained here.
  variance = np.square(x - x.mean(axis=0)).sum()
  errors = np.square(np.asarray(x_hat) - x[:, None]).sum(axis=(0, 2)) / variance
  assert errors[0] < 1
  assert (np.diff(errors) < 0).all()


def test_level_sizes_are_the_codebook_sizes(name, quantizer):
  sizes = quantizer.level_sizes
  if name == 'hierarchical_kmeans':
    assert all(size <= 4 for size in sizes)
  else:
    assert sizes == _SIZES


def test_lowers_for_every_platform(quantizer):
  platforms = ('cpu', 'cuda', 'tpu')
  x = jax.ShapeDtypeStruct((16, 10), jnp.float32)
  exported = jax.export.export(_codes, platforms=platforms)(quantizer, x)
  assert exported.platforms == platforms
  assert exported.out_avals[0].shape == (16, 3)


@pytest.mark.parametrize(
  'quantizer_name', ['rq_kmeans', 'hierarchical_kmeans', 'lsh', 'opq']
)
def test_mean_has_the_precision_of_float64(quantizer_name):
  """The float32 sum of 80 rows of 5.3 is not exact."""
  x = _embeddings()
  x[:, 3] = 5.3
  assert x.mean(axis=0)[3] != x[0, 3]
  mean = QUANTIZERS[quantizer_name].fit(jax.random.key(0), x, _SIZES).mean
  np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-5)
  assert mean[3] == x[0, 3]
