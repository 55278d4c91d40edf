"""Dropout: how many, which, and what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.models.dropout import Dropout


def _drop(x, rate, seed=0, deterministic=False):
  rngs = {} if deterministic else {'dropout': jax.random.key(seed)}
  run = jax.jit(lambda x: Dropout(rate).apply({}, x, deterministic, rngs=rngs))
  return np.asarray(run(x))


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
def test_zeroes_the_rounded_rate_and_keeps_the_expectation(rate):
  size = 40_000
  dropped = _drop(jnp.full((size,), 3.0), rate)
  rounded = round(rate * 256) / 256
  deviation = np.sqrt(rounded * (1 - rounded) / size)
  assert abs((dropped == 0).mean() - rounded) < 5 * deviation
  kept = dropped[dropped != 0]
  np.testing.assert_allclose(kept * (1 - rounded), 3.0, rtol=1e-6)


def test_a_rate_is_rounded_to_one_256th():
  assert (_drop(jnp.ones(5000), 1 / 256 / 3) == 1).all()
  kept = _drop(jnp.ones(5000), 1 / 256)
  assert 0 < (kept == 0).sum() < 100
  np.testing.assert_allclose(kept[kept != 0], 256 / 255, rtol=1e-6)


def test_the_highest_rate_keeps_one_entry_in_256():
  dropped = _drop(jnp.ones(50_000), 0.9999)
  assert np.isfinite(dropped).all()
  np.testing.assert_allclose(dropped[dropped != 0], 256)
  assert abs((dropped != 0).mean() * 256 - 1) < 0.5


def test_neighbours_are_dropped_independently():
  kept = _drop(jnp.ones((10_000, 8)), 0.5) != 0
  together = np.corrcoef(kept, rowvar=False) - np.eye(8)
  assert np.abs(together).max() < 0.06


@pytest.mark.parametrize('shape', [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 3)])
def test_any_shape(shape):
  dropped = _drop(jnp.ones(shape), 0.5)
  assert dropped.shape == shape
  assert np.isin(dropped, [0, 2]).all()


def test_the_key_decides():
  x = jnp.ones(64)
  np.testing.assert_array_equal(_drop(x, 0.5, 1), _drop(x, 0.5, 1))
  assert (_drop(x, 0.5, 1) != _drop(x, 0.5, 2)).any()


def test_deterministic_is_the_identity_and_needs_no_key():
  x = jnp.arange(9.0)
  np.testing.assert_array_equal(_drop(x, 0.5, deterministic=True), x)


def test_the_type_stays():
  assert _drop(jnp.ones(8, jnp.bfloat16), 0.5).dtype == jnp.bfloat16
