"""Compares the optimal last codes with all permutations."""

import itertools
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids.collisions import nearest_free, optimal
from tiger_jax.semantic_ids.quantizers.rq_kmeans import RqKmeans


def _quantizer(*codebooks):
  """Makes an RQ-KMeans of one-dimensional vectors."""
  return RqKmeans(
    jnp.zeros(1),
    tuple(jnp.asarray(x, jnp.float32)[:, None] for x in codebooks),
  )


# The branches are 100 apart. The last codes add at most 7.
_QUANTIZER = _quantizer([0, 100, 200], [0, 1, 3, 7])
_NUM_CODES = 4


def _codes(x, quantizer):
  """Computes `RqKmeans.codes` in NumPy, which needs no compilation."""
  columns = []
  for codebook in map(np.asarray, quantizer.codebooks):
    distances = ((x[:, None] - codebook[None]) ** 2).sum(axis=-1)
    columns.append(distances.argmin(axis=1))
    x = x - codebook[columns[-1]]
  return np.stack(columns, axis=1).astype(np.int32)


def _ids(x, make_unique, quantizer=_QUANTIZER):
  x = np.asarray(x, np.float32)[:, None]
  codes = _codes(x, quantizer)
  return codes, make_unique(codes, quantizer, x, {'a': 1})


def _total(x, codes):
  """Returns the total squared distance of scalars to their codes."""
  first, last = (np.asarray(c)[:, 0] for c in _QUANTIZER.codebooks)
  decoded = first[codes[:, 0]] + last[codes[:, 1]]
  return float(((np.asarray(x) - decoded) ** 2).sum())


def _smallest_total(x, first_codes):
  """Tries all one-to-one assignments of items to last codes, per branch.

  In a branch with more items than codes, all choices of the items that stay
  are tried, too.
  """
  first, last = (np.asarray(c)[:, 0] for c in _QUANTIZER.codebooks)
  total = 0.0
  for code in np.unique(first_codes):
    residuals = np.asarray(x)[first_codes == code] - first[code]
    num_staying = min(len(residuals), _NUM_CODES)
    total += min(
      ((residuals[list(stay)] - last[list(chosen)]) ** 2).sum()
      for stay in itertools.combinations(range(len(residuals)), num_staying)
      for chosen in itertools.permutations(range(_NUM_CODES), num_staying)
    )
  return total


def _values(max_items):
  """Draws a list of scalars in each of two branches."""
  in_branch = st.lists(st.integers(-30, 90), max_size=max_items)
  return st.tuples(in_branch, in_branch).map(
    lambda lists: [
      100 * branch + tenths / 10
      for branch, values in enumerate(lists)
      for tenths in values
    ]
  )


@settings(max_examples=100, deadline=None)
@given(_values(_NUM_CODES).filter(len))
def test_the_total_distance_is_the_smallest_of_all_permutations(x):
  codes, ids = _ids(x, optimal)
  np.testing.assert_array_equal(ids.codes[:, 0], codes[:, 0])
  total = _total(x, ids.codes)
  assert total == pytest.approx(_smallest_total(x, codes[:, 0]), abs=1e-2)
  assert total <= _total(x, _ids(x, nearest_free)[1].codes) + 1e-2
  assert ids.level_sizes == (3, _NUM_CODES)
  assert ids.num_meaning_levels == 2
  assert ids.provenance == {'a': 1}


@settings(max_examples=60, deadline=None)
@given(_values(_NUM_CODES + 2).filter(lambda x: 1 <= len(x) <= 12))
def test_the_items_that_stay_in_a_full_branch_have_the_smallest_total(x):
  codes, ids = _ids(x, optimal)
  stays = ids.codes[:, 0] == codes[:, 0]
  full = np.bincount(codes[:, 0], minlength=3) >= _NUM_CODES
  # Full branches have an item at each code. Items leave only full branches.
  num_items = np.bincount(ids.codes[:, 0], minlength=3)
  assert (num_items[full] == _NUM_CODES).all()
  assert stays[~full[codes[:, 0]]].all()
  total = _total(np.asarray(x)[stays], ids.codes[stays])
  assert total == pytest.approx(_smallest_total(x, codes[:, 0]), abs=1e-2)


def test_an_item_that_does_not_collide_may_move():
  # `nearest_free` moves only the item 0.4, from the codeword 0 to the codeword
  # 3. The total distance is .1**2 + 2.6**2 + .1**2. It is smaller if 0.4 moves
  # to the codeword 1, and 0.9 moves to 3: .1**2 + .6**2 + 2.1**2.
  x = [-0.1, 0.4, 0.9]
  codes, ids = _ids(x, optimal)
  assert codes.tolist() == [[0, 0], [0, 0], [0, 1]]
  assert ids.codes.tolist() == [[0, 0], [0, 1], [0, 2]]
  assert _total(x, ids.codes) == pytest.approx(0.01 + 0.36 + 4.41)
  assert _ids(x, nearest_free)[1].codes.tolist() == [[0, 0], [0, 2], [0, 1]]


def test_items_of_branches_without_collisions_keep_their_codes():
  x = [0.0, 103.0, 0.1, 107.0, 2.9]
  codes, ids = _ids(x, optimal)
  np.testing.assert_array_equal(ids.codes[[1, 3, 4]], codes[[1, 3, 4]])
  assert ids.codes[[0, 2]].tolist() == [[0, 0], [0, 1]]


def test_the_surplus_items_go_to_the_nearest_free_codes():
  # The items 100, 101, 103 and 107 are exactly at the codes of branch 100, and
  # stay. The surplus items move in the order of their distances to these codes.
  # 109 moves first, to the nearest code of branch 200, the codeword 0. This is
  # also the nearest code for 110, which has to take the codeword 1. 94 moves to
  # the codeword 7 of branch 0.
  x = [110.0, 109.0, 94.0, 100.0, 101.0, 103.0, 107.0, 0.0]
  _, ids = _ids(x, optimal)
  assert ids.codes[3:].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3], [0, 0]]
  assert ids.codes[:3].tolist() == [[2, 1], [2, 0], [0, 3]]


class _WithoutACode(NamedTuple):
  """A quantizer in which one branch lacks the last code 2."""

  quantizer: RqKmeans

  @property
  def level_sizes(self):
    return self.quantizer.level_sizes

  def codes(self, x):
    raise NotImplementedError

  def distances(self, x, codes, level):
    distances = self.quantizer.distances(x, codes, level)
    if level == 0:
      return distances
    is_missing = (codes[:, :1] == 1) & (jnp.arange(_NUM_CODES) == 2)[None]
    return jnp.where(is_missing, jnp.inf, distances)

  def reconstruct(self, codes):
    raise NotImplementedError


def test_codes_that_do_not_exist_are_not_assigned():
  # Branch 1 has the codewords 0, 1 and 7 for four items. The item 100.1 leaves,
  # because the total of the other items is then .7**2. If 100.1 stayed, the
  # total would be at least .5. The nearest branch with a free code is 2.
  x = np.array([[100.0], [100.1], [100.3], [107.0]], np.float32)
  codes = np.array([[1, 0], [1, 0], [1, 0], [1, 3]], np.int32)
  ids = optimal(codes, _WithoutACode(_QUANTIZER), x, {})
  assert ids.codes.tolist() == [[1, 0], [2, 0], [1, 1], [1, 3]]


@pytest.mark.parametrize('batch_size', [4096, 4])
def test_the_order_of_the_items_does_not_matter(batch_size):
  rng = np.random.default_rng(0)
  quantizer = RqKmeans(
    jnp.zeros(5),
    tuple(
      jnp.asarray(rng.normal(size=(size, 5)), jnp.float32) for size in (3, 2, 4)
    ),
  )
  x = rng.normal(size=(21, 5)).astype(np.float32)
  codes = _codes(x, quantizer)
  # There is a branch with more items than codes.
  branch = codes[:, 0] * 2 + codes[:, 1]
  assert np.bincount(branch).max() > 4
  ids = optimal(codes, quantizer, x, {}, batch_size=batch_size)
  again = optimal(codes, quantizer, x, {})
  np.testing.assert_array_equal(ids.codes, again.codes)
  changed = False
  for _ in range(5):
    order = rng.permutation(len(x))
    shuffled = optimal(codes[order], quantizer, x[order], {})
    np.testing.assert_array_equal(shuffled.codes, ids.codes[order])
    others = nearest_free(codes[order], quantizer, x[order], {}).codes
    unshuffled = nearest_free(codes, quantizer, x, {}).codes[order]
    changed |= (others != unshuffled).any()
  # `nearest_free` would fail this test.
  assert changed


def test_one_level_is_one_branch():
  quantizer = _quantizer([0, 1, 3, 7])
  _, ids = _ids([-0.1, 0.4, 0.9], optimal, quantizer)
  assert ids.codes.tolist() == [[0], [1], [2]]


def test_refuses_more_items_than_ids():
  x = np.linspace(0, 200, 13)
  _ids(x[:-1], optimal)
  with pytest.raises(UsageError, match='allow 12 Semantic IDs, too few for 13'):
    _ids(x, optimal)


def test_refuses_an_empty_catalog():
  with pytest.raises(DataError, match='no items'):
    optimal(np.zeros((0, 2), np.int32), _QUANTIZER, np.zeros((0, 1)), {})
