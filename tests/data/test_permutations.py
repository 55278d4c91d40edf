"""Permutations without memory."""

import collections

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.data.permutations import permute


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 5000), seeds=st.tuples(*[st.integers(0, 2**40)] * 2))
def test_every_number_occurs_once(size, seeds):
  assert sorted(permute(np.arange(size), size, *seeds)) == list(range(size))


def test_each_number_is_permuted_on_its_own():
  whole = permute(np.arange(1000), 1000, 3, 4)
  chosen = np.array([999, 5, 5, 0])
  assert permute(chosen, 1000, 3, 4).tolist() == whole[chosen].tolist()


def test_large_sizes_need_no_memory():
  size = 2**60
  numbers = permute(np.arange(1000), size, 0)
  assert len(set(numbers.tolist())) == 1000
  assert 0 <= numbers.min() < size / 100 and size * 0.99 < numbers.max() < size


@pytest.mark.parametrize('size', [3, 4])
def test_all_permutations_are_equally_likely(size):
  num_permutations = int(np.prod(np.arange(1, size + 1)))
  num_draws = 200 * num_permutations
  found = collections.Counter(
    tuple(permute(np.arange(size), size, seed).tolist())
    for seed in range(num_draws)
  )
  assert len(found) == num_permutations
  # Six standard deviations of a count.
  assert max(abs(x - 200) for x in found.values()) < 6 * 200**0.5


@pytest.mark.parametrize('which', [0, 1, 2])
def test_every_seed_selects_another_permutation(which):
  seeds = [[1, 2, 3], [1, 2, 3]]
  seeds[1][which] += 1
  first, second = (permute(np.arange(1000), 1000, *x) for x in seeds)
  # Two random permutations agree in one number on average.
  assert (first == second).sum() < 8
