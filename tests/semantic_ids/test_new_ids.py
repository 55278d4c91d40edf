"""Tests of the Semantic IDs of new items, against an exhaustive search."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import DataError, NumbersError, UsageError
from tiger_jax.semantic_ids import new_ids
from tiger_jax.semantic_ids.quantizers.rq_kmeans import RqKmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer

DIM = 3
CODEBOOKS = np.random.default_rng(0).normal(size=(2, 3, DIM))
CODEBOOKS = CODEBOOKS.astype(np.float32)


def make_tokenizer(collisions='extra_code'):
  quantizer = RqKmeans(
    jnp.zeros(DIM, jnp.float32), tuple(map(jnp.asarray, CODEBOOKS))
  )
  return Tokenizer(quantizer, collisions, DIM)


def ordered_codes(x, prefix):
  """Returns the codes of the next level, nearest first."""
  for level, code in enumerate(prefix):
    x = x - CODEBOOKS[level][code]
  return np.argsort(np.square(CODEBOOKS[len(prefix)] - x).sum(1)).tolist()


def first_free(x, used, sizes, prefix=()):
  """Returns the first free ID of a depth-first search, nearest codes first."""
  if len(prefix) == len(sizes):
    return None if prefix in used else prefix
  codes = range(sizes[-1])
  if len(prefix) < len(CODEBOOKS):
    codes = ordered_codes(x, prefix)
  for code in codes:
    if found := first_free(x, used, sizes, (*prefix, code)):
      return found
  return None


def expected_ids(vectors, used, sizes):
  """Items whose own ID is free come first, then all others in their order."""
  used, ids = set(used), {}
  for place, x in enumerate(vectors):
    own = first_free(x, set(), sizes)
    if own not in used:
      ids[place] = own
      used.add(own)
  for place, x in enumerate(vectors):
    if place not in ids:
      ids[place] = first_free(x, used, sizes)
      used.add(ids[place])
  return [ids[place] for place in range(len(vectors))]


@pytest.mark.parametrize('sizes', [(3, 3), (3, 3, 1), (3, 3, 3)])
@pytest.mark.parametrize('seed', range(4))
def test_ids_equal_an_exhaustive_search(sizes, seed):
  rng = np.random.default_rng(seed)
  every = np.array(list(itertools.product(*map(range, sizes))), np.int32)
  num_used = len(every) // 3
  used = every[rng.permutation(len(every))[:num_used]]
  vectors = rng.normal(size=(len(every) - num_used, DIM)).astype(np.float32)
  for num in (1, len(vectors) // 2, len(vectors)):
    ids = new_ids.assign(make_tokenizer(), vectors[:num], used, sizes)
    expected = expected_ids(vectors[:num], map(tuple, used.tolist()), sizes)
    assert [tuple(x) for x in ids.tolist()] == expected


def test_ids_equal_those_of_the_tokenizer_while_codes_are_free():
  rng = np.random.default_rng(5)
  tokenizer = make_tokenizer()
  vectors = rng.normal(size=(60, DIM)).astype(np.float32)
  ids = tokenizer.make_ids(vectors, {})
  new = rng.normal(size=(12, DIM)).astype(np.float32)
  assigned = tokenizer.assign(new, ids)
  sizes = assigned.level_sizes
  actual = new_ids.assign(tokenizer, new, ids.codes, sizes)
  np.testing.assert_array_equal(actual, assigned.codes[len(vectors) :])


def test_too_few_free_ids_are_refused():
  every = np.array(list(np.ndindex(3, 3, 2)), np.int32)
  vectors = np.zeros((2, DIM), np.float32)
  (only,) = new_ids.assign(
    make_tokenizer(), vectors[:1], every[1:], (3, 3, 2)
  ).tolist()
  assert only == every[0].tolist()
  with pytest.raises(UsageError, match='too few free .* for 2 new items') as e:
    new_ids.assign(make_tokenizer(), vectors, every[1:], (3, 3, 2))
  assert '\n' not in str(e.value) and math.prod((3, 3, 2)) == 18


def test_wrong_inputs_are_refused():
  used = np.zeros((1, 3), np.int32)
  vectors = np.zeros((1, DIM), np.float32)
  with pytest.raises(DataError, match='load both from one run'):
    new_ids.assign(make_tokenizer(), vectors, used, (3, 4, 2))
  with pytest.raises(DataError, match='fitted to width 3'):
    new_ids.assign(make_tokenizer(), vectors[:, :2], used, (3, 3, 2))
  with pytest.raises(NumbersError, match='not finite'):
    new_ids.assign(make_tokenizer(), vectors * np.nan, used, (3, 3, 2))
