"""Tests the rate, the independence and the kept values of dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.models.dropout import Dropout


def _drop(x, rate, seed=0, deterministic=False):
  rngs = {} if deterministic else {'dropout': jax.random.key(seed)}
  run = jax.jit(lambda x: Dropout(rate).apply({}, x, deterministic, rngs=rngs))
  return np.asarray(run(x))


@pytest.mark.parametrize('rate', [0.001, 0.1, 0.5, 0.9])
def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(rate):
  size = 200_000
  dropped = _drop(jnp.full((size,), 3.0), rate)
  deviation = np.sqrt(rate * (1 - rate) / size)
  assert abs((dropped == 0).mean() - rate) < 5 * deviation
  kept = dropped[dropped != 0]
  np.testing.assert_allclose(kept * (1 - rate), 3.0, rtol=1e-6)


def test_rate_zero_needs_no_key():
  x = jnp.arange(5.0)
  kept = Dropout(0.0).apply({}, x, deterministic=False)
  np.testing.assert_array_equal(kept, x)


def test_masks_of_different_seeds_are_independent():
  masks = np.stack([_drop(jnp.ones(20_000), 0.5, seed) for seed in range(6)])
  correlation = np.corrcoef(masks) - np.eye(6)
  assert np.abs(correlation).max() < 0.04


def test_rows_are_dropped_independently():
  kept = _drop(jnp.ones((8, 10_000)), 0.5) != 0
  correlation = np.corrcoef(kept) - np.eye(8)
  assert np.abs(correlation).max() < 0.06


def test_columns_are_dropped_independently():
  kept = _drop(jnp.ones((10_000, 8)), 0.5) != 0
  correlation = np.corrcoef(kept, rowvar=False) - np.eye(8)
  assert np.abs(correlation).max() < 0.06


@pytest.mark.parametrize('shape', [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 3)])
def test_dropout_accepts_any_shape(shape):
  dropped = _drop(jnp.ones(shape), 0.5)
  assert dropped.shape == shape
  assert np.isin(dropped, [0, 2]).all()


def test_the_key_determines_the_mask():
  x = jnp.ones(64)
  np.testing.assert_array_equal(_drop(x, 0.5, 1), _drop(x, 0.5, 1))
  assert (_drop(x, 0.5, 1) != _drop(x, 0.5, 2)).any()


def test_deterministic_dropout_is_the_identity_and_needs_no_key():
  x = jnp.arange(9.0)
  np.testing.assert_array_equal(_drop(x, 0.5, deterministic=True), x)


def test_dropout_keeps_the_dtype():
  assert _drop(jnp.ones(8, jnp.bfloat16), 0.5).dtype == jnp.bfloat16
