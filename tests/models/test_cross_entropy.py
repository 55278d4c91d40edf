"""Compares the cross-entropy of TIGER with plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.models.cross_entropy import cross_entropy

LEVEL_SIZES = (5, 3, 4)


def _slow_cross_entropy(logits, target, weight):
  result = []
  for level, x in enumerate(logits):
    total = 0.0
    for row, w in enumerate(weight):
      probabilities = np.exp(x[row]) / np.exp(x[row]).sum()
      total -= w * math.log(probabilities[target[row, level]])
    result.append(total / sum(weight))
  return result


def test_cross_entropy_equals_slow_numpy():
  rng = np.random.default_rng(0)
  logits = [rng.normal(size=(6, size)) for size in LEVEL_SIZES]
  target = np.stack([rng.integers(0, size, 6) for size in LEVEL_SIZES], 1)
  weight = np.array([1, 1, 0, 1, 0, 1])
  loss = jax.jit(cross_entropy)(
    [jnp.asarray(x, jnp.float32) for x in logits],
    jnp.asarray(target, jnp.int32),
    jnp.asarray(weight, jnp.float32),
  )
  expected = _slow_cross_entropy(logits, target, weight)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_cross_entropy_of_padding_alone_is_zero():
  logits = [jnp.zeros((2, size)) for size in LEVEL_SIZES]
  loss = jax.jit(cross_entropy)(
    logits, jnp.zeros((2, 3), jnp.int32), jnp.zeros(2)
  )
  np.testing.assert_array_equal(loss, 0)
