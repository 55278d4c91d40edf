"""Tests that random catalogs have the right form and distribution."""

import numpy as np
import pytest

from benchmarks import catalogs


def _check(codes, num_codes):
  assert codes.dtype == np.min_scalar_type(num_codes - 1)
  assert codes.max() < num_codes
  # `np.unique` also sorts.
  np.testing.assert_array_equal(codes, np.unique(codes, axis=0))


@pytest.mark.parametrize('skew', [False, True])
@pytest.mark.parametrize(
  ('num_items', 'num_codes', 'num_levels'),
  # The IDs need one, two, three and one 64-bit keys. 10 is not a power of two.
  [(5000, 256, 4), (5000, 2048, 8), (500, 256, 17), (300, 10, 4)],
)
def test_ids_are_sorted_and_unique(num_items, num_codes, num_levels, skew):
  codes = catalogs.draw(num_items, num_codes, num_levels, skew, seed=0)
  assert codes.shape == (num_items, num_levels)
  _check(codes, num_codes)


def test_draws_depend_on_the_seed():
  for skew in False, True:
    first, again, other = (
      catalogs.draw(1000, 256, 4, skew, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_uniform_catalog_has_as_many_items_as_requested_or_possible():
  for num_items in 60, 64, 100:
    codes = catalogs.draw(num_items, 4, 3, skew=False, seed=0)
    assert len(codes) == min(num_items, 64)
    _check(codes, 4)


def test_a_skewed_catalog_may_be_smaller_than_requested():
  codes = catalogs.draw(32**3, 32, 3, skew=True, seed=0)
  assert 32**3 // 2 < len(codes) < 32**3
  _check(codes, 32)


def test_uniform_codes_are_uniform():
  codes = catalogs.draw(100_000, 64, 5, skew=False, seed=0)
  for level in codes.T:
    shares = np.bincount(level, minlength=64) / len(codes)
    np.testing.assert_allclose(shares, 1 / 64, rtol=0.15)


def test_skewed_codes_follow_zipf_after_every_prefix():
  # There are many more IDs than items, so removing duplicates has no effect.
  codes = catalogs.draw(100_000, 256, 12, skew=True, seed=0)
  law = np.arange(1, 257) ** -1.2
  law /= law.sum()
  most_frequent = []
  for _ in range(3):
    shares = np.bincount(codes[:, 0], minlength=256) / len(codes)
    error = 5 * np.sqrt(law / len(codes)) + 1 / len(codes)
    assert (np.abs(np.sort(shares)[::-1] - law) < error)[:5].all()
    most_frequent.append(shares.argmax())
    # Keep only the IDs with the most frequent first code, and remove this code.
    codes = codes[codes[:, 0] == most_frequent[-1], 1:]
  assert len(set(most_frequent)) > 1


def test_frequent_codes_differ_between_prefixes():
  codes = catalogs.draw(100_000, 256, 12, skew=True, seed=0)
  firsts = np.bincount(codes[:, 0]).argsort()[::-1][:10]
  seconds = [
    np.bincount(codes[codes[:, 0] == first, 1]).argmax() for first in firsts
  ]
  assert len(set(seconds)) >= 8


def test_logits_are_standard_normal_and_repeatable():
  first, *others = catalogs.logits(3, 5, 1000, 4, seed=0)
  assert first.shape == (3, 1, 1000)
  assert [x.shape for x in others] == 3 * [(3, 5, 1000)]
  assert {x.dtype for x in (first, *others)} == {np.dtype(np.float32)}
  everything = np.concatenate(others, axis=None)
  assert abs(everything.mean()) < 0.05
  assert abs(everything.std() - 1) < 0.05
  assert (others[0] != others[1]).any()
  again, *_ = catalogs.logits(3, 5, 1000, 4, seed=0)
  np.testing.assert_array_equal(first, again)
