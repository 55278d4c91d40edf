"""Compares `extra_code` and `nearest_free` with slow computations."""

import dataclasses
import itertools
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import jax.numpy as jnp
from jaxtyping import Array
import numpy as np
import pytest

from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids import collisions
from tiger_jax.semantic_ids.collisions import extra_code, nearest_free
from tiger_jax.semantic_ids.ids import SemanticIds

_CODES = np.array([[1, 2], [0, 3], [1, 2], [1, 3], [0, 3], [1, 2]], np.int32)
_ROWS = st_numpy.arrays(
  np.int32,
  st.tuples(st.integers(1, 30), st.just(2)),
  elements=st.integers(0, 2),
)


def test_extra_code_numbers_the_items_that_share_codes():
  ids = extra_code(_CODES, (4, 5), {'quantizer': 'test'})
  np.testing.assert_array_equal(ids.codes[:, :2], _CODES)
  np.testing.assert_array_equal(ids.codes[:, 2], [0, 0, 1, 0, 1, 2])
  assert ids.codes.dtype == np.int32
  assert ids.level_sizes == (4, 5, 3)
  assert ids.num_meaning_levels == 2
  assert ids.provenance == {'quantizer': 'test'}


def test_without_collisions_there_is_no_extra_code():
  ids = extra_code(_CODES[[0, 1, 3]], (4, 5), {})
  np.testing.assert_array_equal(ids.codes, _CODES[[0, 1, 3]])
  assert ids.level_sizes == (4, 5)
  assert ids.num_meaning_levels == 2


def _slow_collision_codes(rows, last):
  """Yields the collision code of each row; `last` has the largest old codes."""
  last = dict(last)
  for row in map(tuple, rows.tolist()):
    last[row] = last.get(row, -1) + 1
    yield last[row]


@settings(max_examples=60, deadline=None)
@given(_ROWS)
def test_extra_code_equals_a_loop(codes):
  ids = extra_code(codes, (3, 3), {})
  numbers = list(_slow_collision_codes(codes, {}))
  np.testing.assert_array_equal(ids.codes[:, :2], codes)
  assert ids.num_meaning_levels == 2
  if max(numbers):
    assert ids.codes[:, 2].tolist() == numbers
    assert ids.level_sizes == (3, 3, max(numbers) + 1)
  else:
    assert ids.level_sizes == (3, 3)


@settings(max_examples=60, deadline=None)
@given(_ROWS, _ROWS, st.sets(st.integers(0, 29), max_size=15))
def test_new_items_get_collision_codes_above_the_largest(codes, new, removed):
  old = extra_code(codes, (3, 3), {'a': 1})
  # Removed items leave gaps in the collision codes.
  kept = [i for i in range(len(codes)) if i not in removed] or [0]
  old = dataclasses.replace(old, codes=old.codes[kept])
  ids = extra_code(new, (3, 3), old.provenance, old)
  last: dict[tuple[int, ...], int] = {}
  for row in old.codes.tolist():
    number = row[2] if len(row) == 3 else 0
    last[tuple(row[:2])] = max(number, last.get(tuple(row[:2]), 0))
  numbers = list(_slow_collision_codes(new, last))
  width = old.codes.shape[1]
  np.testing.assert_array_equal(ids.codes[: len(kept), :width], old.codes)
  np.testing.assert_array_equal(ids.codes[len(kept) :, :2], new)
  size = max(max(numbers) + 1, *old.level_sizes[2:], 1)
  if width == 3 or max(numbers):
    assert ids.codes[len(kept) :, 2].tolist() == numbers
    assert ids.level_sizes == (3, 3, size)
  else:
    assert ids.level_sizes == (3, 3)
  assert ids.provenance == {'a': 1}


def test_first_collision_of_a_new_item_adds_the_extra_code():
  old = extra_code(_CODES[:2], (4, 4), {})
  ids = extra_code(_CODES[1:2], (4, 4), {}, old)
  assert ids.codes.tolist() == [[1, 2, 0], [0, 3, 0], [0, 3, 1]]
  assert ids.level_sizes == (4, 4, 2)


def test_extra_code_stays_when_no_collision_is_left():
  old = extra_code(_CODES, (4, 4), {})
  without_collisions = SemanticIds(old.codes[:2], old.level_sizes, 2, {})
  new = np.array([[3, 3]], np.int32)
  ids = extra_code(new, (4, 4), {}, without_collisions)
  assert ids.codes.tolist() == [[1, 2, 0], [0, 3, 0], [3, 3, 0]]
  assert ids.level_sizes == (4, 4, 3)


def test_an_empty_list_of_items_is_refused():
  with pytest.raises(DataError, match='no items'):
    extra_code(np.zeros((0, 3), np.int32), (4,) * 3, {})


class _Toy(NamedTuple):
  """A quantizer with distances that depend on the item and the branch.

  The first columns of an embedding are its codes. The last column determines
  the distances to other codes, with many ties. Some codes do not exist if
  `holes` is true.
  """

  levels: tuple[Array, ...]
  holes: Array

  @property
  def level_sizes(self):
    return tuple(len(level) for level in self.levels)

  def codes(self, x):
    return x[:, :-1].astype(int)

  def distances(self, x, codes, level):
    level_codes = self.levels[level][None]
    branch = jnp.sum(codes[:, :level] * jnp.arange(2, 2 + level)[None], axis=1)
    hashed = (x[:, -1].astype(int) * 3 + branch * 5)[:, None] + level_codes * 7
    is_own = level_codes == x[:, level].astype(int)[:, None]
    distances = jnp.where(is_own, 0, 1 + hashed % 5)
    is_hole = self.holes & ((branch[:, None] + level_codes) % 4 == 3)
    return jnp.where(is_hole, jnp.inf, distances)

  def reconstruct(self, codes):
    return None


def _toy(sizes, holes=False):
  return _Toy(tuple(jnp.arange(size) for size in sizes), jnp.asarray(holes))


def _ordered_ids(quantizer, x):
  """Lists all existing IDs in the order in which item `x` should try them."""
  sizes = quantizer.level_sizes

  def key(codes):
    key = []
    for level, code in enumerate(codes):
      row = _distances(quantizer, x, codes[:level])
      key.append((row[code], code))
    return key

  keyed = [
    (key(codes), codes) for codes in itertools.product(*map(range, sizes))
  ]
  return [
    codes
    for key, codes in sorted(keyed)
    if all(distance < np.inf for distance, _ in key)
  ]


def _distances(quantizer, x, branch):
  """Computes `_Toy.distances` of one item in plain Python."""
  level = len(branch)
  weighted = sum(code * (2 + i) for i, code in enumerate(branch))
  row = []
  for code in range(quantizer.level_sizes[level]):
    distance = 1 + (int(x[-1]) * 3 + weighted * 5 + code * 7) % 5
    if code == x[level]:
      distance = 0
    if quantizer.holes and (weighted + code) % 4 == 3:
      distance = np.inf
    row.append(distance)
  return row


def _slow_nearest_free(quantizer, x, codes, used):
  """Moves items one by one, and tries every ID."""
  rows = [tuple(row) for row in codes.tolist()]
  first = {row: i for i, row in reversed(list(enumerate(rows)))}
  keeps = [first[row] == i and row not in used for i, row in enumerate(rows)]
  used = used | set(rows)
  for i in range(len(rows)):
    if not keeps[i]:
      rows[i] = next(c for c in _ordered_ids(quantizer, x[i]) if c not in used)
      used.add(rows[i])
  return rows


@st.composite
def _items(draw, min_items=1):
  """Draws a quantizer, and at most as many embeddings as it has IDs."""
  sizes = draw(st.sampled_from([(2, 3, 4), (6,), (3, 5)]))
  quantizer = _toy(sizes, draw(st.booleans()))
  ids = _ordered_ids(quantizer, [-1] * len(sizes) + [0])
  num_items = draw(st.integers(min_items, len(ids)))
  # With few distinct codes, branches fill up.
  distinct = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4))
  codes = [draw(st.sampled_from(distinct)) for _ in range(num_items)]
  x = [[*row, draw(st.integers(0, 9))] for row in codes]
  return quantizer, np.array(x, np.float32)


@settings(max_examples=60, deadline=None)
@given(_items())
def test_nearest_free_equals_brute_force(items):
  quantizer, x = items
  codes = x[:, :-1].astype(np.int32)
  ids = nearest_free(codes, quantizer, x, {'a': 1})
  rows = [tuple(row) for row in ids.codes.tolist()]
  assert rows == _slow_nearest_free(quantizer, x, codes, set())
  assert len(set(rows)) == len(rows)
  assert ids.level_sizes == quantizer.level_sizes
  assert ids.num_meaning_levels == len(ids.level_sizes)
  again = nearest_free(codes, quantizer, x, {})
  np.testing.assert_array_equal(again.codes, ids.codes)


@settings(max_examples=40, deadline=None)
@given(_items(min_items=2), st.data())
def test_nearest_free_of_new_items_equals_brute_force(items, data):
  quantizer, x = items
  codes = x[:, :-1].astype(np.int32)
  num_old = data.draw(st.integers(1, len(x) - 1))
  old = nearest_free(codes[:num_old], quantizer, x[:num_old], {})
  ids = nearest_free(codes[num_old:], quantizer, x[num_old:], {}, old)
  np.testing.assert_array_equal(ids.codes[:num_old], old.codes)
  used = set(map(tuple, old.codes.tolist()))
  expected = _slow_nearest_free(quantizer, x[num_old:], codes[num_old:], used)
  assert list(map(tuple, ids.codes[num_old:].tolist())) == expected


def test_nearest_free_moves_only_colliding_items():
  codes = np.array([[0, 0], [2, 4], [0, 0], [1, 1]], np.int32)
  x = np.pad(codes, ((0, 0), (0, 1))).astype(np.float16)
  ids = nearest_free(codes, _toy((3, 5)), x, {})
  np.testing.assert_array_equal(ids.codes[[0, 1, 3]], codes[[0, 1, 3]])
  assert ids.codes[2, 0] == 0


def test_nearest_free_does_not_depend_on_the_batch_size():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, size=(55, 4)).astype(np.float32)
  codes = x[:, :-1].astype(np.int32)
  quantizer = _toy((4, 4, 4))
  one_batch = nearest_free(codes, quantizer, x, {})
  many_batches = nearest_free(codes, quantizer, x, {}, batch_size=4)
  np.testing.assert_array_equal(one_batch.codes, many_batches.codes)


def test_duplicates_fill_all_existing_ids():
  quantizer = _toy((2, 3, 4), holes=True)
  order = _ordered_ids(quantizer, [1, 0, 0, 0])
  assert 0 < len(order) < 2 * 3 * 4
  codes = np.tile(np.array([[1, 0, 0]], np.int32), (len(order), 1))
  x = np.pad(codes, ((0, 0), (0, 1))).astype(np.float32)
  ids = nearest_free(codes, quantizer, x, {})
  assert [tuple(row) for row in ids.codes.tolist()] == order


@pytest.mark.parametrize('holes', [False, True])
def test_full_branches_are_not_searched(monkeypatch, holes):
  calls = []
  distances = collisions._distances

  def spy(quantizer, x, codes, level):
    calls.append(tuple(codes[0, :level].tolist()))
    return distances(quantizer, x, codes, level)

  monkeypatch.setattr(collisions, '_distances', spy)
  quantizer = _toy((4, 4, 4), holes)
  num_items = len(_ordered_ids(quantizer, [0] * 4))
  codes = np.zeros((num_items, 3), np.int32)
  ids = nearest_free(codes, quantizer, np.zeros((num_items, 4)), {})
  num_branches = len(np.unique(ids.codes[:, :2], axis=0))
  num_in = np.unique(ids.codes[:, 0], return_counts=True)[1]
  num_in_own = (ids.codes[:, :2] == 0).all(axis=1).sum()
  # If the branch of an item is full, one call computes the distances to the
  # sibling branches, and another call computes the distances to the codes in
  # the chosen branch. With holes, each branch may need one more call, which
  # shows that its unused codes do not exist.
  num_calls = 1 + (num_items - num_in_own) + (num_items - num_in[0])
  num_calls += num_items - num_in_own
  assert len(calls) <= num_calls + holes * (num_branches + len(num_in))


@pytest.mark.parametrize(('holes', 'num_ids'), [(False, 6), (True, 5)])
def test_refuses_more_items_than_ids(holes, num_ids):
  quantizer = _toy((2, 3), holes)
  x = np.zeros((num_ids + 1, 3), np.float32)
  codes = np.zeros((num_ids + 1, 2), np.int32)
  nearest_free(codes[1:], quantizer, x[1:], {})
  match = (
    rf'level sizes \(2, 3\) allow {num_ids} Semantic IDs, too few for '
    rf'{num_ids + 1} items: choose larger config\.semantic_ids\.codebook_sizes'
  )
  with pytest.raises(UsageError, match=match) as error:
    nearest_free(codes, quantizer, x, {})
  assert '\n' not in str(error.value)
