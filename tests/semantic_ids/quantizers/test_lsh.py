"""Tests LSH codes and distances against slow NumPy and against theory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import NumbersError
from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import lsh


def _embeddings(num_items, dim=6):
  rng = np.random.default_rng(0)
  return (rng.normal(size=(num_items, dim)) + 4).astype(np.float32)


@pytest.fixture(name='quantizer')
def _quantizer():
  return lsh.fit(jax.random.key(0), _embeddings(50), (8, 2, 1, 16))


def test_is_a_quantizer(quantizer):
  assert isinstance(quantizer, Quantizer)
  assert quantizer.level_sizes == (8, 2, 1, 16)
  x = jnp.asarray(_embeddings(3))
  assert quantizer.reconstruct(quantizer.codes(x)) is None


def _slow_margins(quantizer, x, level):
  mean = _embeddings(50).astype(np.float64).mean(axis=0)
  return [
    float(np.dot(x - mean, np.float64(normal)))
    for normal in quantizer.hyperplanes[level]
  ]


def test_codes_equal_slow_numpy(quantizer):
  x = _embeddings(50)
  codes = np.asarray(quantizer.codes(jnp.asarray(x)))
  assert codes.shape == (50, 4)
  for row, row_codes in zip(x, codes, strict=True):
    for level, code in enumerate(row_codes):
      margins = _slow_margins(quantizer, row, level)
      bits = ['1' if margin > 0 else '0' for margin in margins]
      assert code == int('0' + ''.join(reversed(bits)), 2)


@pytest.mark.parametrize('level', range(4))
def test_distances_equal_slow_numpy(quantizer, level):
  x = _embeddings(9)
  codes = quantizer.codes(jnp.asarray(x))
  distances = np.asarray(quantizer.distances(jnp.asarray(x), codes, level))
  expected = np.zeros_like(distances)
  for i, row in enumerate(x):
    for code in range(quantizer.level_sizes[level]):
      for plane, margin in enumerate(_slow_margins(quantizer, row, level)):
        if (margin > 0) != bool(code >> plane & 1):
          expected[i, code] += margin**2
  np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(distances.argmin(axis=1), codes[:, level])
  np.testing.assert_array_equal(distances.min(axis=1), 0)


def test_an_item_on_a_plane_gets_the_code_with_the_smallest_distance():
  quantizer = lsh.fit(jax.random.key(0), np.zeros((2, 3), np.float32), (4,))
  x = jnp.zeros((1, 3))
  assert quantizer.codes(x).tolist() == [[0]]
  assert quantizer.distances(x, jnp.zeros((1, 1), int), 0).argmin() == 0


@pytest.mark.parametrize('degrees', [10, 45, 120])
def test_planes_separate_items_in_proportion_to_their_angle(degrees):
  angle = np.radians(degrees)
  a, b = np.zeros((2, 20), np.float32)
  a[3] = 1
  b[[3, 11]] = np.cos(angle), np.sin(angle)
  # The mirror images move the mean to the origin.
  x = np.stack([a, b, -a, -b])
  quantizer = lsh.fit(jax.random.key(1), x, (2**25,) * 40)
  codes = np.asarray(quantizer.codes(jnp.asarray(x)))
  share = sum(int(x).bit_count() for x in codes[0] ^ codes[1]) / 1000
  expected = degrees / 180
  # Four standard deviations of the share in 1000 draws.
  std = np.sqrt(expected * (1 - expected) / 1000)
  assert abs(share - expected) < 4 * std


def test_planes_pass_through_the_mean():
  x = _embeddings(500) + 100
  quantizer = lsh.fit(jax.random.key(0), x, (2,) * 50)
  above = np.asarray(quantizer.codes(jnp.asarray(x))).mean(axis=0)
  assert above.min() > 0.4 and above.max() < 0.6


def test_refuses_embeddings_that_are_not_finite():
  x = _embeddings(4)
  x[2, 1] = np.nan
  with pytest.raises(NumbersError, match='row 2 is not finite'):
    lsh.fit(jax.random.key(0), x, (4,))
