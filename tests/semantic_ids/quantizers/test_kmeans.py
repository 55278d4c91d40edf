"""Tests k-means against planted clusters and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from tiger_jax.errors import UsageError
from tiger_jax.semantic_ids.quantizers import kmeans


def _inertia(x, centroids):
  return float(kmeans.nearest(jnp.asarray(x), centroids)[1].sum())


def test_nearest_equals_numpy():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(50, 5)).astype(np.float32)
  centroids = rng.normal(size=(7, 5)).astype(np.float32)
  expected = ((x[:, None] - centroids[None]) ** 2).sum(axis=-1)
  rows, distances = kmeans.nearest(jnp.asarray(x), jnp.asarray(centroids))
  np.testing.assert_array_equal(rows, expected.argmin(axis=1))
  np.testing.assert_allclose(distances, expected.min(axis=1), atol=1e-5)


def test_ties_go_to_the_first_centroid():
  centroids = jnp.asarray([[3.0, 0], [1, 1], [1, -1], [1, 1], [3, 0]])
  x = jnp.asarray([[0.0, 0], [1, 2], [1, -3], [4, 0], [9, 0]])
  rows, _ = kmeans.nearest(x, centroids)
  np.testing.assert_array_equal(rows, [1, 1, 2, 0, 0])


def test_squared_distances_equal_numpy():
  rng = np.random.default_rng(4)
  x = rng.normal(size=(20, 5)).astype(np.float32)
  centroids = np.concatenate([rng.normal(size=(6, 5)), x[:3]])
  distances = kmeans.squared_distances(
    jnp.asarray(x), jnp.asarray(centroids, jnp.float32)
  )
  expected = ((x[:, None] - centroids[None]) ** 2).sum(axis=-1)
  np.testing.assert_allclose(distances, expected, atol=1e-5)
  assert (np.asarray(distances) >= 0).all()


def test_one_iteration_equals_numpy():
  rng = np.random.default_rng(5)
  x = rng.normal(size=(30, 3)).astype(np.float32)
  centroids = np.concatenate([x[:4] * 0.1, [[100, 0, 0], [0, 100, 0]]])
  distances = ((x[:, None] - centroids[None]) ** 2).sum(axis=-1)
  nearest = distances.argmin(axis=1)
  assert set(nearest) == set(range(4))
  farthest = np.argsort(-distances.min(axis=1))
  expected = [x[nearest == c].mean(axis=0) for c in range(4)]
  expected += [x[farthest[0]], x[farthest[1]]]
  moved = kmeans.lloyd(
    jnp.asarray(x),
    jnp.asarray(centroids, jnp.float32),
    len(x),
    len(centroids),
  )
  np.testing.assert_allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize('num_points', [130, 256])
def test_padded_fit_equals_fit(num_points):
  rng = np.random.default_rng(6)
  x = rng.normal(size=(num_points, 4)).astype(np.float32)
  x[-1] = 50
  centroids = kmeans.fit_padded(jax.random.key(0), x, 12, 10)
  expected = kmeans.fit(jax.random.key(0), jnp.asarray(x), 12, 10)
  np.testing.assert_allclose(centroids, expected, atol=1e-4)


def test_padding_never_becomes_a_centroid():
  x = np.repeat(np.eye(3, dtype=np.float32) + 1, 3, axis=0)
  centroids = kmeans.fit_padded(jax.random.key(0), x, 9, 5)
  assert centroids.shape == (9, 3)
  np.testing.assert_array_equal(np.unique(centroids, axis=0), x[[6, 3, 0]])


def test_recovers_planted_clusters():
  rng = np.random.default_rng(1)
  centers = rng.normal(size=(12, 8)).astype(np.float32) * 10
  planted = rng.permutation(np.repeat(np.arange(12), 20))
  x = centers[planted] + rng.normal(size=(240, 8)).astype(np.float32) * 0.1
  centroids = kmeans.fit(jax.random.key(0), jnp.asarray(x), 12, 20)
  means = np.stack([x[planted == c].mean(axis=0) for c in range(12)])
  gaps = np.linalg.norm(means[:, None] - np.asarray(centroids)[None], axis=-1)
  np.testing.assert_allclose(gaps.min(axis=1), 0, atol=1e-4)
  np.testing.assert_array_equal(np.sort(gaps.argmin(axis=1)), np.arange(12))


def test_several_candidates_per_seed_find_more_clusters():
  """Plain k-means++ has one candidate per seed, and misses more clusters."""
  rng = np.random.default_rng(8)
  centers = rng.normal(size=(40, 8)) * 5
  x = np.repeat(centers, 12, 0) + rng.normal(size=(480, 8))

  def num_hit(seeds):
    gaps = ((np.asarray(seeds)[:, None] - centers[None]) ** 2).sum(-1)
    return len(np.unique(gaps.argmin(1)))

  def plain_num_hit():
    seeds, distances = [], np.ones(len(x))
    for _ in range(40):
      seeds.append(x[rng.choice(len(x), p=distances / distances.sum())])
      gaps = ((x - seeds[-1][None]) ** 2).sum(1)
      distances = np.minimum(distances, gaps) if seeds[1:] else gaps
    return num_hit(seeds)

  keys = jax.random.split(jax.random.key(0), 10)
  seeds = [kmeans.fit(key, jnp.asarray(x, jnp.float32), 40, 0) for key in keys]
  mean_num_hit = np.mean([num_hit(x) for x in seeds])
  assert mean_num_hit > 2 + np.mean([plain_num_hit() for _ in range(10)])


def test_is_as_good_as_scikit_learn():
  rng = np.random.default_rng(2)
  x = rng.normal(size=(1500, 6)).astype(np.float32)
  inertia = _inertia(x, kmeans.fit(jax.random.key(0), jnp.asarray(x), 32, 50))
  reference = KMeans(32, n_init=3, random_state=0).fit(x).inertia_
  assert inertia < 1.03 * reference


def test_fit_does_not_depend_on_the_scale():
  x = np.random.default_rng(7).normal(size=(300, 4)).astype(np.float32)
  small = kmeans.fit(jax.random.key(0), jnp.asarray(x / 1024), 12, 1)
  large = kmeans.fit(jax.random.key(0), jnp.asarray(x * 1024), 12, 1)
  np.testing.assert_array_equal(small * 2**20, large)


def test_no_cluster_is_empty():
  # k-means++ places few seeds in the dense cluster, so that clusters become
  # empty and must be refilled.
  rng = np.random.default_rng(3)
  x = np.concatenate([
    rng.normal(size=(190, 2)) * 1e-3,
    rng.normal(size=(10, 2)) * 1e3,
  ]).astype(np.float32)  # fmt: skip
  centroids = kmeans.fit(jax.random.key(0), jnp.asarray(x), 64, 20)
  assert len(np.unique(kmeans.nearest(jnp.asarray(x), centroids)[0])) == 64


def test_fits_repeated_points():
  x = jnp.asarray(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0))
  centroids = kmeans.fit(jax.random.key(0), x, 8, 5)
  assert np.isfinite(centroids).all()
  assert _inertia(x, centroids) == 0


def test_refuses_more_clusters_than_points():
  x = jnp.zeros((5, 2))
  with pytest.raises(UsageError, match='6 codes from 5 items: set .* to 5'):
    kmeans.fit(jax.random.key(0), x, 6, 5)
