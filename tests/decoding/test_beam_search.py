"""The beam search against one written with dictionaries and loops."""

import functools
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.decoding.beam_search import Beams, beam_search
from tiger_jax.decoding.catalog import Catalog

LEVEL_SIZES = (4, 3, 5)
EVERY_ID = list(itertools.product(*map(range, LEVEL_SIZES)))
NUM_REQUESTS = 2
NUM_HASHES = 97


def _slow_beam_search(logits_fn, ids, num_beams, constrained):
  """Beams of one request: (score, codes, item row or None), best first."""
  trie = {}
  for row, semantic_id in enumerate(ids):
    node = trie
    for code in semantic_id[:-1]:
      node = node.setdefault(code, {})
    node[semantic_id[-1]] = row
  beams = [(0.0, (), trie)]
  for level, num_codes in enumerate(LEVEL_SIZES):
    last = level == len(LEVEL_SIZES) - 1
    grown = []
    for score, prefix, node in beams:
      logits = np.asarray(logits_fn(prefix), np.float64)
      total = np.log(np.sum(np.exp(logits)))
      for code in range(num_codes):
        if constrained and code not in node:
          continue
        child = node.get(code, None if last else {})
        grown.append((score + logits[code] - total, (*prefix, code), child))
    grown.sort(key=lambda beam: -beam[0])
    beams = grown[:num_beams]
  return beams


def _step_from_prefixes(tables):
  """A step whose logits depend on the request and all codes before.

  The cache holds a hash of each beam's prefix, and the prefix itself, which
  are right only while the search re-orders them as it re-orders its beams.
  """

  def step(level, previous, cache):
    hashed, prefix = cache
    num_beams = 1
    if previous is not None:
      num_beams = previous.shape[1]
      flat = previous.reshape(-1)
      hashed = (hashed * 7 + flat + 1) % NUM_HASHES
      prefix = prefix.at[:, level - 1].set(flat)
    logits = tables[level][hashed]
    return logits.reshape(NUM_REQUESTS, num_beams, -1), (hashed, prefix)

  return step


@functools.partial(jax.jit, static_argnames='num_beams')
def _search_prefixes(tables, catalog, num_beams, constrained):
  hashed = 1 + jnp.arange(NUM_REQUESTS)
  prefix = jnp.zeros((NUM_REQUESTS, len(LEVEL_SIZES)), jnp.int32)
  return beam_search(
    _step_from_prefixes(tables),
    (hashed, prefix),
    catalog,
    NUM_REQUESTS,
    num_beams,
    constrained,
  )


def _slow_logits(tables, request, prefix):
  hashed = 1 + request
  for code in prefix:
    hashed = (hashed * 7 + code + 1) % NUM_HASHES
  return tables[len(prefix)][hashed]


def _draw(seed, num_items):
  rng = np.random.default_rng(seed)
  tables = [
    2 * rng.normal(size=(NUM_HASHES, size)).astype(np.float32)
    for size in LEVEL_SIZES
  ]
  ids = [EVERY_ID[i] for i in rng.permutation(len(EVERY_ID))[:num_items]]
  return tables, ids, _catalog(ids)


def _catalog(ids):
  return Catalog.from_codes(np.array(ids, np.int32), LEVEL_SIZES)


def _assert_equals_slow_search(found, tables, ids, num_beams, constrained):
  """Compares every request's beams with those of the slow search."""
  found = jax.device_get(found)
  for request in range(NUM_REQUESTS):
    logits_fn = functools.partial(_slow_logits, tables, request)
    expected = _slow_beam_search(logits_fn, ids, num_beams, constrained)
    _assert_equal(Beams(*(x[request] for x in found)), expected, ids)


def _assert_equal(found, expected, ids):
  """Compares one request's beams with those of `_slow_beam_search`."""
  num = len(expected)
  rows = [ids.index(codes) if codes in ids else -1 for _, codes, _ in expected]
  assert rows == [-1 if leaf is None else leaf for *_, leaf in expected]
  np.testing.assert_array_equal(found.codes[:num], [x[1] for x in expected])
  np.testing.assert_array_equal(found.items[:num], rows)
  np.testing.assert_array_equal(found.valid[:num], np.array(rows) >= 0)
  np.testing.assert_allclose(
    found.scores[:num], [x[0] for x in expected], atol=1e-5
  )
  assert (np.asarray(found.items[num:]) == -1).all()
  assert (np.asarray(found.scores[num:]) == -np.inf).all()
  assert not np.asarray(found.valid[num:]).any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_items=st.sampled_from([1, 25]),
  num_beams=st.sampled_from([1, 3, 40]),
  constrained=st.booleans(),
)
def test_equals_slow_search(seed, num_items, num_beams, constrained):
  tables, ids, catalog = _draw(seed, num_items)
  found = _search_prefixes(tables, catalog, num_beams, constrained)
  _assert_equals_slow_search(found, tables, ids, num_beams, constrained)


@functools.partial(jax.jit, static_argnames='num_beams')
def _search_levels(tables, catalog, num_beams, constrained=True):
  """A search whose logits depend on the level alone; there is no cache."""

  def step(level, previous, cache):
    num_beams = 1 if previous is None else previous.shape[1]
    shape = (1, num_beams, LEVEL_SIZES[level])
    return jnp.broadcast_to(tables[level][None, None], shape), cache

  return beam_search(step, (), catalog, 1, num_beams, constrained)


@pytest.mark.parametrize('constrained', [True, False])
def test_equals_slow_search_without_a_cache(constrained):
  rng = np.random.default_rng(3)
  tables = [rng.normal(size=size).astype(np.float32) for size in LEVEL_SIZES]
  _, ids, catalog = _draw(4, 25)
  found = jax.device_get(_search_levels(tables, catalog, 7, constrained))
  expected = _slow_beam_search(
    lambda prefix: tables[len(prefix)], ids, 7, constrained
  )
  _assert_equal(Beams(*(x[0] for x in found)), expected, ids)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_items=st.sampled_from([1, 25]),
  num_beams=st.sampled_from([3, 40]),
)
def test_every_valid_beam_is_another_item(seed, num_items, num_beams):
  tables, ids, catalog = _draw(seed, num_items)
  found = jax.device_get(_search_prefixes(tables, catalog, num_beams, True))
  for request in range(NUM_REQUESTS):
    valid = found.valid[request]
    items = found.items[request]
    assert len(set(items[valid])) == valid.sum()
    assert [ids[i] for i in items[valid]] == [
      tuple(codes) for codes in found.codes[request][valid].tolist()
    ]
    assert (items[~valid] == -1).all()
    scores = found.scores[request]
    assert (scores[1:] <= scores[:-1]).all()
    assert (np.isfinite(scores) == valid).all()
    assert valid.sum() == min(num_beams, num_items)


def test_probabilities_are_normalised_before_invalid_codes_are_masked():
  """Two of four codes are valid: they keep their share of all four."""
  ids = [(1, 0, 0), (3, 2, 4)]
  tables = [np.log(np.arange(1, size + 1.0)) for size in LEVEL_SIZES]
  tables = [table.astype(np.float32) for table in tables]
  found = _search_levels(tables, _catalog(ids), 2)
  np.testing.assert_array_equal(found.items, [[1, 0]])
  expected = [4 / 10 * 3 / 6 * 5 / 15, 2 / 10 * 1 / 6 * 1 / 15]
  np.testing.assert_allclose(np.exp(found.scores), [expected], rtol=1e-5)


def test_ties_go_to_the_lower_codes():
  _, ids, catalog = _draw(0, 25)
  tables = [np.zeros(size, np.float32) for size in LEVEL_SIZES]
  found = _search_levels(tables, catalog, 60)
  best = [tuple(codes) for codes in found.codes[0, :25].tolist()]
  assert best == sorted(ids)
  np.testing.assert_array_equal(
    _search_levels(tables, catalog, 60).items, found.items
  )


def test_the_order_of_the_items_changes_only_their_rows():
  tables, ids, catalog = _draw(8, 25)
  order = np.random.default_rng(0).permutation(25)
  shuffled = _catalog([ids[i] for i in order])
  before = _search_prefixes(tables, catalog, 10, True)
  after = _search_prefixes(tables, shuffled, 10, True)
  np.testing.assert_array_equal(after.codes, before.codes)
  np.testing.assert_array_equal(order[np.asarray(after.items)], before.items)


def test_a_changed_catalogue_compiles_nothing_within_its_capacity():
  search = jax.jit(
    lambda tables, catalog: _search_prefixes(tables, catalog, 5, True)
  )
  # Items of nine to twelve pairs of first codes: 16 rows hold them all.
  tables, *_ = _draw(5, 25)
  for num_items in (9, 12, 10):
    ids = [EVERY_ID[5 * i + i % 5] for i in range(num_items)]
    found = search(tables, _catalog(ids))
    _assert_equals_slow_search(found, tables, ids, 5, True)
  assert search._cache_size() == 1
