"""Tests the table of the embeddings of prefixes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.models.prefixes import (
  PrefixEmbedding,
  extend_hash,
  hash_prefixes,
)

FLOAT = jnp.dtype('float32')
_MASK = 2**32 - 1


def _slow_row(codes, num_rows):
  """Returns the row of a prefix."""
  mixed = 0
  for code in codes[:-1]:
    mixed = ((mixed ^ (code + 1)) * 0x9E3779B1) & _MASK
    mixed = ((mixed ^ (mixed >> 15)) * 0x85EBCA6B) & _MASK
    mixed ^= mixed >> 13
  return mixed % num_rows + codes[-1]


@pytest.mark.parametrize('num_rows', [1, 7, 2**15, 2**24])
def test_the_hash_equals_a_hash_in_plain_python(num_rows):
  codes = np.random.default_rng(0).integers(0, 4096, (50, 4))
  codes[0], codes[1] = 0, 4095
  rows = hash_prefixes(jnp.asarray(codes, jnp.int32), num_rows)
  assert rows.dtype == jnp.int32
  expected = [
    [_slow_row(x[:length], num_rows) for length in (1, 2, 3, 4)]
    for x in codes.tolist()
  ]
  np.testing.assert_array_equal(rows, expected)


def test_a_hash_depends_on_all_codes_of_its_prefix():
  codes = jnp.asarray([[7, 0, 3, 250]], jnp.int32)
  before = np.asarray(hash_prefixes(codes, 2**24))[0]
  assert len(set(before.tolist())) == 4
  for level in range(4):
    after = hash_prefixes(codes.at[0, level].add(1), 2**24)[0]
    moved = np.asarray(after) - before
    assert (moved != 0).tolist() == [i >= level for i in range(4)]
    # Prefixes that differ only in their last code are neighbors.
    assert moved[level] == 1
    assert (np.abs(moved[level + 1 :]) > 1).all()
  swapped = hash_prefixes(codes[:, ::-1], 2**24)[0]
  assert not np.isin(swapped, before).any()


def test_prefixes_are_spread_over_all_rows():
  codes = np.stack(np.unravel_index(np.arange(32_000), (400, 80, 1)), 1)
  rows = hash_prefixes(jnp.asarray(codes, jnp.int32), 100)
  counts = np.bincount(np.asarray(rows)[:, 2], minlength=100)
  assert len(counts) == 100
  # Six standard deviations of a random spread.
  assert np.abs(counts - 320).max() < 6 * 320**0.5


def test_the_extensions_of_a_prefix_are_the_embeddings_of_longer_prefixes():
  sizes = (5, 7, 6)
  model = PrefixEmbedding(11, 3, sizes, jax.nn.initializers.normal(), FLOAT)
  rng = np.random.default_rng(0)
  prefixes = jnp.asarray(rng.integers(0, 5, (40, 2, 2)), jnp.int32)
  params = model.init(jax.random.key(0), prefixes)
  # The last slice of seven rows starts at row 10.
  assert params['params']['embedding'].shape == (18, 3)
  state = jnp.zeros((40, 2), jnp.uint32)
  for level in (1, 2):
    state = extend_hash(state, prefixes[..., level - 1])
    actual = model.apply(params, state, level, method='extensions')
    codes = jnp.asarray(rng.integers(0, sizes[level], (40, 2, 3)))
    some = model.apply(params, state, level, codes, method='extensions')
    chosen = np.take_along_axis(np.asarray(actual), codes[..., None], 2)
    np.testing.assert_array_equal(some, chosen)
    for code in range(sizes[level]):
      last = jnp.full((40, 2, 1), code, jnp.int32)
      codes = jnp.concatenate([prefixes[..., :level], last], -1)
      expected = model.apply(params, codes)[..., -1, :]
      np.testing.assert_array_equal(actual[:, :, code], expected)
