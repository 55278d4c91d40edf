"""Pseudo-random permutations that need no memory.

A Feistel network with a hash as its round function is a permutation of the
numbers of an even number of bits (Luby and Rackoff, 1988). Cycle walking
restricts it to `range(size)`: results of `size` or more are permuted again
(Black and Rogaway, 2002).
"""

from jaxtyping import Int64
import numpy as np

_NUM_ROUNDS = 8


def permute(
  index: Int64[np.ndarray, ' n'], size: int, *seeds: int
) -> Int64[np.ndarray, ' n']:
  """Returns the images of numbers under a permutation of `range(size)`.

  Args:
    index: The numbers, each at least 0 and less than `size`.
    size: The number of elements of the permutation.
    *seeds: Select the permutation, each at least 0.
  """
  keys = np.random.SeedSequence(seeds).generate_state(_NUM_ROUNDS, np.uint64)
  half = np.uint64((max(size - 1, 1).bit_length() + 1) // 2)
  result = _feistel(index.astype(np.uint64), half, keys)
  while len(outside := np.flatnonzero(result >= size)):
    result[outside] = _feistel(result[outside], half, keys)
  return result.astype(np.int64)


def _feistel(x: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
  """Permutes the numbers of `2 * half` bits."""
  mask = (np.uint64(1) << half) - np.uint64(1)
  left, right = x >> half, x & mask
  for key in keys:
    left, right = right, left ^ (_mix(right + key) & mask)
  return left << half | right


def _mix(x: np.ndarray) -> np.ndarray:
  """Returns hashes of 64 bits (the finalizer of SplitMix64)."""
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
