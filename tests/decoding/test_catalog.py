"""The index of valid Semantic IDs against sets and dictionaries."""

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.decoding.catalog import Catalog
from tiger_jax.errors import DataError

lookup = jax.jit(Catalog.lookup)


def _all_ids(level_sizes):
  return list(itertools.product(*map(range, level_sizes)))


@st.composite
def _catalogues(draw):
  """Level sizes, and some of their IDs in some order."""
  level_sizes = draw(st.sampled_from([(6,), (3, 4), (2, 3, 4), (3, 1, 2, 5)]))
  size = math.prod(level_sizes)
  order = draw(st.randoms(use_true_random=False)).sample(range(size), size)
  ids = [_all_ids(level_sizes)[i] for i in order]
  return level_sizes, ids[: draw(st.integers(1, size))]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(_catalogues())
def test_lookup_finds_every_item_and_nothing_else(drawn):
  level_sizes, ids = drawn
  catalog = Catalog.from_codes(np.array(ids, np.int32), level_sizes)
  assert catalog.level_sizes == level_sizes
  rows = {semantic_id: row for row, semantic_id in enumerate(ids)}
  every = _all_ids(level_sizes)
  expected = [rows.get(semantic_id, -1) for semantic_id in every]
  found = lookup(catalog, jnp.asarray(every, jnp.int32))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('wrong', [-1, 4, 100])
@pytest.mark.parametrize('level', [0, 1, 2])
def test_lookup_of_a_code_out_of_range_finds_nothing(level, wrong):
  level_sizes = (4, 3, 4)
  codes = np.array(_all_ids(level_sizes), np.int32)
  catalog = Catalog.from_codes(codes, level_sizes)
  asked = codes.copy()
  asked[:, level] = wrong
  assert (np.asarray(lookup(catalog, jnp.asarray(asked))) == -1).all()


def test_allowed_codes_are_those_that_lead_to_an_item():
  level_sizes = (4, 3, 5)
  rng = np.random.default_rng(0)
  every = _all_ids(level_sizes)
  ids = [every[i] for i in rng.permutation(len(every))[:17]]
  catalog = Catalog.from_codes(np.array(ids, np.int32), level_sizes)
  states = {(): 0}
  for level, size in enumerate(level_sizes):
    prefixes = list(states)
    state = jnp.asarray([states[prefix] for prefix in prefixes], jnp.int32)
    allowed = jax.jit(Catalog.allowed, static_argnums=1)(catalog, level, state)
    advance = jax.jit(Catalog.advance, static_argnums=1)
    expected = [
      [any(i[: level + 1] == (*p, code) for i in ids) for code in range(size)]
      for p in prefixes
    ]
    np.testing.assert_array_equal(allowed, expected)
    longer = {}
    for code in range(size):
      after = advance(catalog, level, state, jnp.full_like(state, code))
      for prefix, then in zip(prefixes, after.tolist(), strict=True):
        longer[(*prefix, code)] = then
    np.testing.assert_array_equal(
      [longer[(*p, c)] >= 0 for p in prefixes for c in range(size)],
      np.ravel(expected),
    )
    states = {prefix: then for prefix, then in longer.items() if then >= 0}
    # Two prefixes never share a state.
    assert len(set(states.values())) == len(states)
  assert states == {semantic_id: row for row, semantic_id in enumerate(ids)}


def test_nothing_leads_on_from_nowhere():
  catalog = Catalog.from_codes(np.array([[0, 0]], np.int32), (2, 2))
  nowhere = jnp.array([-1, -1])
  for level in range(2):
    assert not catalog.allowed(level, nowhere).any()
    np.testing.assert_array_equal(
      catalog.advance(level, nowhere, jnp.array([0, 1])), -1
    )


@pytest.mark.parametrize(
  ('codes', 'message'),
  [
    ([[0, 1], [1, 2], [0, 1]], '1 of 3 items repeat'),
    ([[1, 1], [1, 1], [1, 1]], '2 of 3 items repeat'),
    ([[0, 0], [2, 0]], 'outside the level sizes'),
    ([[0, 0], [0, 3]], 'outside the level sizes'),
    ([[0, 0], [0, -1]], 'outside the level sizes'),
  ],
)
def test_refuses_what_is_not_an_index(codes, message):
  with pytest.raises(DataError, match=message):
    Catalog.from_codes(np.array(codes, np.int32), (2, 3))


@pytest.mark.parametrize('num_items', [1, 2, 3, 8, 9, 12])
def test_rows_are_padded_to_a_power_of_two(num_items):
  codes = np.array(_all_ids((12, 2)), np.int32)[::2][:num_items]
  catalog = Catalog.from_codes(codes, (12, 2))
  capacity = {1: 1, 2: 2, 3: 4, 8: 8, 9: 16, 12: 16}[num_items]
  assert [x.shape for x in catalog.children] == [(1, 12), (capacity, 2)]


def test_a_changed_catalogue_compiles_nothing_within_its_capacity():
  every = np.array(_all_ids((8, 8)), np.int32)
  first_codes = every[::8]
  run = jax.jit(lambda catalog, codes: catalog.lookup(codes))
  # Five to eight prefixes: items go, come, and change their IDs.
  for kept in (first_codes, first_codes[2:], first_codes[:5] + 3):
    catalog = Catalog.from_codes(kept, (8, 8))
    found = np.asarray(run(catalog, jnp.asarray(every)))
    np.testing.assert_array_equal(
      found.reshape(8, 8)[kept[:, 0], kept[:, 1]], np.arange(len(kept))
    )
    assert (found >= 0).sum() == len(kept)
  assert run._cache_size() == 1
  # Nine prefixes do not fit into eight rows.
  every = np.array(_all_ids((9, 8)), np.int32)
  assert Catalog.from_codes(every[::8], (9, 8)).children[1].shape == (16, 8)
