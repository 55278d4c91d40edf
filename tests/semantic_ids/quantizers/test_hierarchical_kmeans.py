"""Tests hierarchical k-means against planted trees and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tiger_jax.semantic_ids.quantizer import Quantizer
from tiger_jax.semantic_ids.quantizers import hierarchical_kmeans
from tiger_jax.semantic_ids.quantizers.hierarchical_kmeans import (
  HierarchicalKmeans,
)

_jitted_codes = jax.jit(HierarchicalKmeans.codes)


def _fit(x, sizes, **options):
  return hierarchical_kmeans.fit(jax.random.key(0), x, sizes, **options)


def _codes(quantizer, x):
  return np.asarray(_jitted_codes(quantizer, jnp.asarray(x, jnp.float32)))


def _num_prefixes(codes, level):
  return len(np.unique(codes[:, :level], axis=0))


def _random(num_items, dim=4):
  rng = np.random.default_rng(0)
  return rng.normal(size=(num_items, dim)).astype(np.float32)


@pytest.fixture(name='tree')
def _tree():
  """A root with two children: one has three children, the other has one."""
  return HierarchicalKmeans(
    jnp.zeros(2),
    centroids=(
      jnp.asarray([[0.0, 0.0], [10.0, 0.0]]),
      jnp.asarray([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [9.0, 3.0]]),
    ),
    children=(jnp.asarray([[0, 1]]), jnp.asarray([[0, 1, 2], [3, -1, -1]])),
  )


def test_a_small_tree_equals_values_worked_out_by_hand(tree):
  assert isinstance(tree, Quantizer)
  assert tree.level_sizes == (2, 3)
  x = jnp.asarray([[0.0, -3.0], [2.0, 0.0], [7.0, 3.0], [4.9, 3.0]])
  codes = tree.codes(x)
  # The leaf (9, 3) is nearest to the last item, but in a different branch.
  np.testing.assert_array_equal(codes, [[0, 1], [0, 2], [1, 0], [0, 2]])
  np.testing.assert_array_equal(
    tree.reconstruct(codes),
    [
      [[0, 0], [0, -1]],
      [[0, 0], [1, 0]],
      [[10, 0], [9, 3]],
      [[0, 0], [1, 0]],
    ],
  )
  np.testing.assert_array_equal(
    tree.distances(x, codes, 0)[:3], [[9, 109], [4, 64], [58, 18]]
  )
  inf = np.inf
  np.testing.assert_array_equal(
    tree.distances(x, codes, 1)[:3], [[16, 4, 10], [5, 5, 1], [4, inf, inf]]
  )
  # The branch depends on the given codes, not on the embedding.
  other_codes = jnp.asarray([[1, 0]] * 4)
  np.testing.assert_array_equal(
    tree.distances(x, other_codes, 1)[:2], [[117, inf, inf], [58, inf, inf]]
  )


@pytest.fixture(name='fitted', scope='module')
def _fitted():
  return _fit(_random(300), (4, 5, 6))


def test_descent_equals_brute_force(fitted):
  tree = fitted
  x = 1.5 * np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
  codes = _codes(tree, x)
  x_hat = np.asarray(tree.reconstruct(jnp.asarray(codes)))
  for level in range(3):
    distances = tree.distances(jnp.asarray(x), jnp.asarray(codes), level)
    np.testing.assert_array_equal(np.argmin(distances, axis=1), codes[:, level])
  for i, vector in enumerate(x):
    node = 0
    for level in range(3):
      rows = [r for r in np.asarray(tree.children[level][node]) if r >= 0]
      centroids = np.asarray(tree.centroids[level] + tree.mean[None])[rows]
      code = np.argmin([np.sum((vector - c) ** 2) for c in centroids])
      assert codes[i, level] == code
      np.testing.assert_array_equal(x_hat[i, level], centroids[code])
      node = rows[code]


def test_recovers_planted_clusters_of_clusters():
  rng = np.random.default_rng(2)
  coarse = np.repeat(np.arange(6), 36)
  fine = np.repeat(np.arange(36), 6)
  x = 100 * rng.normal(size=(6, 5))[coarse] + 5 * rng.normal(size=(36, 5))[fine]
  x = x + 0.01 * rng.normal(size=x.shape)
  shuffled = rng.permutation(216)
  codes = _codes(tree := _fit(x[shuffled], (256, 256, 256)), x)
  assert tree.level_sizes == (6, 6, 6)
  assert adjusted_rand_score(coarse, codes[:, 0]) == 1
  assert adjusted_rand_score(fine, codes[:, 0] * 6 + codes[:, 1]) == 1
  assert _num_prefixes(codes, 3) == 216
  means = np.stack([x[fine == f].mean(axis=0) for f in range(36)])[fine]
  x_hat = tree.reconstruct(jnp.asarray(codes))
  np.testing.assert_allclose(x_hat[:, 1], means, atol=1e-3)
  np.testing.assert_allclose(x_hat[:, 2], x, atol=1e-3)


@pytest.mark.parametrize('num_items', [1, 3, 200])
def test_every_item_gets_its_own_codes(num_items):
  x = _random(num_items)
  tree = _fit(x, (64, 64, 64))
  codes = _codes(tree, x)
  assert _num_prefixes(codes, 3) == num_items
  widths = tuple(int(codes[:, level].max()) + 1 for level in range(3))
  assert tree.level_sizes == widths


@pytest.mark.parametrize('num_items, num_children', [(8, 2), (9, 3), (64, 4)])
def test_number_of_children_of_the_root_depends_on_the_items(
  num_items, num_children
):
  """With 3 levels, the number is the cube root of `num_items`, rounded up."""
  tree = _fit(_random(num_items), (5, 256, 256))
  assert tree.level_sizes[0] == num_children


def test_number_of_children_depends_on_the_items_of_a_node():
  x = _random(250)
  tree = _fit(x, (3, 4, 16))
  codes = _codes(tree, x)
  assert tree.level_sizes[0] == 3
  assert all(
    size <= max_size
    for size, max_size in zip(tree.level_sizes, (3, 4, 16), strict=True)
  )
  for first in range(3):
    branch = codes[codes[:, 0] == first]
    # The number of children is the square root of the number of items, rounded
    # up, but at most 4.
    assert _num_prefixes(branch, 2) == min(4, int(np.ceil(len(branch) ** 0.5)))
    for second in np.unique(branch[:, 1]):
      leaves = branch[branch[:, 1] == second, 2]
      assert len(np.unique(leaves)) == min(16, len(leaves))


def test_items_share_ids_if_there_are_too_few_ids():
  x = _random(400)
  tree = _fit(x, (2, 3, 4))
  codes = _codes(tree, x)
  assert tree.level_sizes == (2, 3, 4)
  assert _num_prefixes(codes, 3) == 24
  x_hat = np.asarray(tree.reconstruct(jnp.asarray(codes)))
  errors = np.sum((x[:, None] - x_hat) ** 2, axis=-1).mean(axis=0)
  assert (np.diff(errors) < 0).all()


def test_duplicates_share_codes():
  x = np.tile(_random(30), (4, 1)).astype(np.float16)
  tree = _fit(x, (8, 8, 8))
  codes = _codes(tree, x)
  np.testing.assert_array_equal(codes, np.tile(codes[:30], (4, 1)))
  # Every node of the tree is chosen by an item.
  num_used = sum(len(np.unique(codes[:, level])) for level in range(3))
  assert sum(tree.level_sizes) == num_used
  assert len(tree.centroids[2]) == _num_prefixes(codes, 3)


def test_equal_items_share_one_code():
  tree = _fit(np.full((50, 3), 7, np.float16), (8, 8))
  assert tree.level_sizes == (1, 1)
  x_hat = tree.reconstruct(jnp.zeros((1, 2), jnp.int32))
  np.testing.assert_array_equal(x_hat, np.full((1, 2, 3), 7))


def test_codes_do_not_depend_on_the_batch(fitted):
  x = _random(300)
  codes = _codes(fitted, x)
  np.testing.assert_array_equal(_codes(fitted, x[280:]), codes[280:])
  np.testing.assert_array_equal(fitted.codes(jnp.asarray(x)), codes)


def test_fits_to_a_sample_of_the_items():
  x = _random(400)
  tree = _fit(x, (256, 256), max_items=50)
  assert len(tree.centroids[1]) == 50
  assert _num_prefixes(_codes(tree, x), 2) == 50
