"""Tests that random IDs are a uniform hash of the embedding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import random_ids

_NUM_ITEMS = 20_000


def _embeddings(num_items=_NUM_ITEMS, dim=8):
  # The numbers are rounded to float16, so their low bits in float32 are zero.
  x = np.random.default_rng(0).normal(size=(num_items, dim))
  return x.astype(np.float16).astype(np.float32)


def _fit(sizes=(255, 255, 16, 16), dim=8):
  return random_ids.fit(jax.random.key(0), np.zeros((1, dim)), sizes)


def _codes(x, quantizer=None):
  quantizer = quantizer or _fit()
  return np.asarray(jax.jit(lambda q, x: q.codes(x))(quantizer, x))


@pytest.fixture(name='codes', scope='module')
def _codes_of_all():
  return _codes(_embeddings())


def test_is_a_quantizer(codes):
  quantizer = _fit()
  assert isinstance(quantizer, Quantizer)
  assert quantizer.level_sizes == (255, 255, 16, 16)
  assert quantizer.reconstruct(jnp.asarray(codes[:3])) is None


def _slow_mix(word):
  word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
  word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
  return word ^ word >> 16


def test_codes_equal_a_slow_hash(codes):
  quantizer = _fit()
  for row, row_codes in zip(_embeddings()[:20], codes[:20], strict=True):
    for level, size in enumerate(quantizer.level_sizes):
      total = sum(
        _slow_mix(word) * coefficient
        for word, coefficient in zip(
          row.view(np.uint32).tolist(),
          quantizer.coefficients[level].tolist(),
          strict=True,
        )
      )
      assert row_codes[level] == _slow_mix(total % 2**32) % size


@pytest.mark.parametrize('level', range(4))
def test_codes_are_uniform(codes, level):
  counts = np.bincount(codes[:, level], minlength=_fit().level_sizes[level])
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize('levels', [(0, 2), (0, 3), (2, 3), (1, 2)])
def test_levels_are_independent(codes, levels):
  table = np.zeros((16, 16))
  np.add.at(table, tuple(codes[:, level] % 16 for level in levels), 1)
  assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize('dim', [0, 7])
def test_similar_items_get_unrelated_codes(codes, dim):
  x = _embeddings()
  x[:, dim] = np.nextafter(x[:, dim], np.float32(np.inf))
  differences = (_codes(x)[:, 2] - codes[:, 2]) % 16
  assert scipy.stats.chisquare(np.bincount(differences)).pvalue > 1e-3


def test_equal_embeddings_get_equal_codes(codes):
  x = _embeddings()
  np.testing.assert_array_equal(_codes(x[5:7]), codes[5:7])
  np.testing.assert_array_equal(_codes(x[[3, 3]]), codes[[3, 3]])


def test_signed_zeros_and_subnormals_get_the_same_codes():
  x = np.float32([[0.0, 1], [-0.0, 1], [1e-40, 1], [1, 0], [1, -0.0]])
  codes = _codes(x, _fit((4096,), dim=2))[:, 0]
  assert codes[0] == codes[1] == codes[2] != codes[3] == codes[4]


def test_distances_are_cyclic():
  quantizer = _fit((5, 7))
  x = jnp.asarray(_embeddings(4))
  codes = quantizer.codes(x)
  for level, size in enumerate((5, 7)):
    distances = quantizer.distances(x, codes, level)
    for own, row in zip(codes[:, level].tolist(), distances, strict=True):
      assert [row[(own + i) % size] for i in range(size)] == list(range(size))
