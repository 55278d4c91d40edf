"""Tests the quality measures against examples, loops and scikit-learn."""

import collections
import itertools
import json
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
from jaxtyping import Array
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tiger_jax.semantic_ids import quality
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizers import residual


class _Sums(NamedTuple):
  """A quantizer that can only reconstruct: it sums the vectors of the codes."""

  codebooks: tuple[Array, ...]

  @property
  def level_sizes(self):
    return tuple(len(codebook) for codebook in self.codebooks)

  def codes(self, x):
    raise NotImplementedError

  def distances(self, x, codes, level):
    raise NotImplementedError

  def reconstruct(self, codes):
    chosen = [c[code] for c, code in zip(self.codebooks, codes.T, strict=True)]
    return jnp.cumsum(jnp.stack(chosen, axis=1), axis=1)


class _WithoutReconstruction(_Sums):
  def reconstruct(self, codes):
    return None


_NO_RECONSTRUCTION = _WithoutReconstruction(())


def _ids(codes, sizes):
  """Returns Semantic IDs: the given codes, each with a collision code."""
  counts = collections.Counter()
  collision_codes = []
  for row in codes:
    collision_codes.append(counts[tuple(row)])
    counts[tuple(row)] += 1
  codes = np.concatenate([codes, np.array(collision_codes)[:, None]], axis=1)
  return SemanticIds(
    codes=codes.astype(np.int32),
    level_sizes=(*sizes, max(collision_codes) + 1),
    num_meaning_levels=len(sizes),
    provenance={},
  )


def _worked_example():
  ids = _ids(np.array([[0, 0], [0, 0], [0, 0], [0, 1], [1, 0], [1, 1]]), (4, 2))
  x = [[0, 0, 7], [0, 0, 7], [0, 2, 7], [0, 4, 7], [10, 0, 7], [10, 6, 7]]
  first = [[0, 0, 7], [10, 0, 7], [99, 99, 99], [99, 99, 99]]
  quantizer = _Sums((jnp.array(first), jnp.array([[0, 0, 0], [0, 4, 0]])))
  return quality.measure(ids, np.array(x, np.float16), quantizer, 'aabbcc')


def test_measure_equals_values_worked_out_by_hand():
  measured = _worked_example()
  by_chance = measured.pop('category_purity_by_chance')
  assert all(0 < share <= 1 for share in by_chance)
  # If one of two codes is twice as frequent as the other, the perplexity is
  # 3 / 2^(2/3).
  perplexity = pytest.approx([1.8898816] * 2)
  # There are only six items, so every other item is among the ten neighbors.
  agreement = pytest.approx([14 / 30, 6 / 30])
  assert measured == {
    'items': 6,
    'level_sizes': [4, 2, 3],
    'usage': [0.5, 1],
    'dead_codes': [2, 0],
    'perplexity': perplexity,
    'collision_rate': [1, 3 / 6],
    'unique_prefix_rate': [2 / 6, 4 / 6],
    # The squared error of the mean (10/3, 2, 7) is 400/3 + 32.
    'reconstruction_error': pytest.approx([56 * 3 / 496, 8 * 3 / 496]),
    'category_purity': [4 / 6, 5 / 6],
    'neighbor_agreement': agreement,
    'neighbor_agreement_by_chance': agreement,
    'worst_collision': 3,
    'collision_histogram': {'1': 3, '3': 1},
    'duplicate_items': 2,
    'constant_dimensions': 1,
  }


def test_the_table_shows_the_worked_example():
  measured = _worked_example() | {'category_purity_by_chance': [0.5, 1.0]}
  lines = quality.format_table(measured).splitlines()
  assert [line.split() for line in lines[1:3]] == [
    '1 4 50.0 1.9 33.3 100.0 33.9 46.7 (46.7) 66.7 (50.0)'.split(),
    '2 2 100.0 1.9 66.7 50.0 4.8 20.0 (20.0) 83.3 (100.0)'.split(),
  ]
  assert lines[-2:] == [
    '6 items, at most 3 with the same semantic prefix',
    '2 items share an embedding with another; 1 dimensions are constant',
  ]


def test_table_fits_the_terminal():
  measured = _worked_example()
  for name, value in measured.items():
    if isinstance(value, list) and name != 'level_sizes':
      measured[name] = [1.0] * 2
  measured |= {'perplexity': [65536.0] * 2, 'level_sizes': [65536] * 3}
  wide = quality.format_table(measured).splitlines()
  assert {len(line) for line in wide[:3]} == {78}
  assert max(map(len, wide)) < 80
  missing = quality.format_table(measured | {'reconstruction_error': None})
  assert missing.splitlines()[1].split()[6] == '-'


def test_result_can_be_written_as_json():
  measured = _worked_example()
  assert json.loads(json.dumps(measured)) == measured


def _slow(codes, category):
  """Computes the measures pair by pair and group by group."""
  n = len(codes)
  result = collections.defaultdict(list)
  for depth in range(1, codes.shape[1] + 1):
    groups = collections.defaultdict(list)
    for row, label in zip(codes, category, strict=True):
      groups[tuple(row[:depth])].append(label)
    sizes = [len(group) for group in groups.values()]
    largest_category = [
      max(collections.Counter(group).values()) for group in groups.values()
    ]
    same = [
      (codes[i, :depth] == codes[j, :depth]).all()
      for i, j in itertools.combinations(range(n), 2)
    ]
    result['collision_rate'].append(sum(s for s in sizes if s > 1) / n)
    result['unique_prefix_rate'].append(len(groups) / n)
    result['category_purity'].append(sum(largest_category) / n)
    result['neighbor_agreement_by_chance'].append(np.mean(same))
  result['collision_histogram'] = {
    str(k): v for k, v in collections.Counter(sizes).items()
  }
  return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 5))
def test_measure_equals_slow_loops(seed, num_codes, num_categories):
  rng = np.random.default_rng(seed)
  codes = rng.integers(0, num_codes, (24, 3))
  category = [str(i) for i in rng.integers(0, num_categories, 24)]
  x = rng.normal(size=(24, 4)).astype(np.float32)
  measured = quality.measure(
    _ids(codes, (num_codes,) * 3), x, _NO_RECONSTRUCTION, category
  )
  for name, value in _slow(codes, category).items():
    assert measured[name] == pytest.approx(value), name
  assert measured['reconstruction_error'] is None
  for level in range(3):
    shares = np.bincount(codes[:, level], minlength=num_codes) / 24
    entropy = -sum(share * np.log(share) for share in shares if share)
    assert measured['usage'][level] == np.mean(shares > 0)
    assert measured['dead_codes'][level] == np.sum(shares == 0)
    assert measured['perplexity'][level] == pytest.approx(np.exp(entropy))
  assert all(0 < usage <= 1 for usage in measured['usage'])
  for name in ('collision_rate', 'neighbor_agreement'):
    assert (np.diff(measured[name]) <= 0).all()
  for name in ('unique_prefix_rate', 'category_purity'):
    assert (np.diff(measured[name]) >= 0).all()


def test_neighbor_agreement_equals_scikit_learn():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 6)).astype(np.float32)
  x *= rng.uniform(0.1, 10, (300, 1)).astype(np.float32)
  codes = np.stack([x[:, 0] > 0, x[:, 1] > 0], axis=1).astype(np.int64)
  search = NearestNeighbors(n_neighbors=11, metric='cosine').fit(x)
  neighbors = search.kneighbors(return_distance=False, n_neighbors=10)
  expected = [
    np.mean(
      [
        (codes[i, :depth] == codes[j, :depth]).all()
        for i in range(300)
        for j in neighbors[i]
      ]
    )
    for depth in (1, 2)
  ]
  measured = quality.measure(
    _ids(codes, (2, 2)), x, _NO_RECONSTRUCTION, ['a'] * 300
  )
  assert measured['neighbor_agreement'] == pytest.approx(expected)
  assert measured['neighbor_agreement'][1] > 0.5
  assert measured['neighbor_agreement_by_chance'][1] < 0.3


def test_purity_of_unrelated_categories_equals_purity_by_chance():
  rng = np.random.default_rng(0)
  codes = rng.integers(0, 5, (2000, 1))
  x = rng.normal(size=(2000, 4)).astype(np.float32)
  ids = _ids(codes, (5,))
  same = [f'{code}' for code in codes[:, 0]]
  measured = quality.measure(ids, x, _NO_RECONSTRUCTION, same)
  assert measured['category_purity'] == [1]
  assert 0.2 <= measured['category_purity_by_chance'][0] < 0.3
  unrelated = [f'{i}' for i in rng.integers(0, 5, 2000)]
  measured = quality.measure(ids, x, _NO_RECONSTRUCTION, unrelated)
  assert measured['category_purity'] == pytest.approx(
    measured['category_purity_by_chance'], abs=0.05
  )


def _residual_case():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(200, 6)).astype(np.float32) + 5
  codebooks = residual.fit_codebooks(jax.random.key(0), jnp.array(x), (8, 8, 8))
  quantized = residual.quantize(jnp.array(x), codebooks)
  ids = _ids(np.asarray(quantized.codes), (8, 8, 8))
  last_residual = (x - quantized.quantized)[:, None]
  residuals = np.concatenate(
    [quantized.residuals[:, 1:], last_residual], axis=1
  )
  return ids, x, _Sums(codebooks), residuals


def test_reconstruction_error_equals_the_last_residual():
  ids, x, quantizer, residuals = _residual_case()
  measured = quality.measure(ids, x, quantizer, ['a'] * 200)
  expected = np.square(residuals).sum(axis=(0, 2)) / (200 * x.var(axis=0).sum())
  np.testing.assert_allclose(
    measured['reconstruction_error'], expected, rtol=1e-4
  )
  assert (np.diff([1, *measured['reconstruction_error']]) < 0).all()


def test_measure_does_not_depend_on_the_batch_size():
  ids, x, quantizer, _ = _residual_case()
  expected = quality.measure(ids, x, quantizer, ['a'] * 200)
  measured = quality.measure(
    ids, x, quantizer, ['a'] * 200, reconstruct_batch=64
  )
  assert measured.pop('reconstruction_error') == pytest.approx(
    expected.pop('reconstruction_error'), rel=1e-5
  )
  assert measured == expected


def test_samples_are_fixed_and_representative(tmp_path):
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(4, 6))[np.arange(2000) % 4]
  x = (centers + 0.1 * rng.normal(size=(2000, 6))).astype(np.float16)
  np.save(tmp_path / 'x.npy', x)
  x = np.load(tmp_path / 'x.npy', mmap_mode='r')
  codebooks = residual.fit_codebooks(
    jax.random.key(0), jnp.array(x, jnp.float32), (4, 4)
  )
  codes = residual.quantize(jnp.array(x, jnp.float32), codebooks).codes
  case = (_ids(np.asarray(codes), (4, 4)), x, _Sums(codebooks), ['a'] * 2000)
  exact = quality.measure(*case)
  measured, repeated = (
    quality.measure(
      *case, max_queries=200, max_searched=800, max_reconstructed=500
    )
    for _ in range(2)
  )
  assert measured == repeated
  sampled = ('neighbor_agreement', 'reconstruction_error')
  for name in sampled:
    assert measured[name] != exact[name]
    np.testing.assert_allclose(measured[name], exact[name], atol=0.15)
  assert measured['neighbor_agreement'][0] == 1
  assert {k: v for k, v in measured.items() if k not in sampled} == {
    k: v for k, v in exact.items() if k not in sampled
  }


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('dim', [1, 3, 8])
def test_duplicate_items_equal_numpy(dtype, dim):
  rng = np.random.default_rng(0)
  # With few distinct values, many rows differ in only one dimension.
  x = rng.choice([-1.0, -0.0, 0.0, 0.5, 1.0], (100, dim)).astype(dtype)
  x[:, dim // 2] = rng.choice([-0.0, 0.0], 100)
  codes = np.zeros((100, 1), np.int64)
  measured = quality.measure(
    _ids(codes, (1,)), x, _NO_RECONSTRUCTION, ['a'] * 100
  )
  # NumPy treats -0 as equal to 0.
  _, counts = np.unique(x, axis=0, return_counts=True)
  assert measured['duplicate_items'] == counts[counts > 1].sum()
  assert measured['constant_dimensions'] == 1


def test_one_item_can_be_measured():
  ids = _ids(np.zeros((1, 2), np.int64), (3, 3))
  codebooks = (jnp.ones((3, 2)), jnp.ones((3, 2)))
  measured = quality.measure(ids, np.ones((1, 2)), _Sums(codebooks), ['a'])
  assert measured['neighbor_agreement'] is None
  assert measured['reconstruction_error'] is None
  assert measured['neighbor_agreement_by_chance'] == [0, 0]
  assert measured['category_purity'] == [1, 1]
  assert measured['constant_dimensions'] == 2
  assert ' - (0.0) ' in quality.format_table(measured)


def test_equal_items_can_be_measured():
  x = np.full((5, 3), 0.1, np.float32)
  ids = _ids(np.zeros((5, 1), np.int64), (1,))
  measured = quality.measure(
    ids, x, _Sums((jnp.array(x[:1]),)), ['Unknown'] * 5
  )
  assert measured['reconstruction_error'] is None
  assert measured['neighbor_agreement'] == [1]
  assert measured['duplicate_items'] == measured['worst_collision'] == 5
  assert measured['constant_dimensions'] == 3
  zeros = quality.measure(ids, x * 0, _NO_RECONSTRUCTION, ['Unknown'] * 5)
  assert zeros['neighbor_agreement'] == [1]
