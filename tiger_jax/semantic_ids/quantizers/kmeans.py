"""k-means on the device: k-means++ seeds, then Lloyd's iterations."""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import UsageError

# Quantizers are fitted to so many items at most; more make them no better.
MAX_ITEMS = 2**18


def fit(
  rng: jax.Array,
  x: Float[Array, 'items z'],
  num_clusters: int,
  num_iterations: int,
) -> Float[Array, 'v z']:
  """Finds the centroids of `num_clusters` clusters.

  A cluster that loses all its points is moved to one of the points that are
  farthest from their centroid. Points may repeat; if fewer than `num_clusters`
  differ, centroids repeat too.

  Raises:
    UsageError: There are more clusters than points.
  """
  if len(x) < num_clusters:
    raise UsageError(
      f'k-means cannot make {num_clusters} codes of {len(x)} items: set '
      f'config.semantic_ids.codebook_sizes to {len(x)} or less'
    )
  return _fit(rng, x, len(x), num_clusters, num_clusters, num_iterations)


def fit_padded(
  rng: jax.Array,
  x: Float[np.ndarray, 'items z'],
  num_clusters: int,
  num_iterations: int,
) -> Float[np.ndarray, 'v z']:
  """Does as `fit` on host arrays, with few programs for many shapes."""
  padding = _power_of_two(len(x)) - len(x)
  centroids = _fit(
    rng,
    np.pad(x, ((0, padding), (0, 0)), mode='edge'),
    len(x),
    num_clusters,
    _power_of_two(num_clusters),
    num_iterations,
  )
  return np.asarray(centroids)[:num_clusters]


def squared_distances(
  x: Float[Array, 'b z'], centroids: Float[Array, 'v z']
) -> Float[Array, 'b v']:
  """Returns the squared distance of every point to every centroid."""
  squares = jnp.sum(x**2, axis=-1)[:, None]
  return jnp.maximum(squares + _scores(x, centroids), 0)


def nearest(
  x: Float[Array, 'b z'], centroids: Float[Array, 'v z']
) -> tuple[Int[Array, ' b'], Float[Array, ' b']]:
  """Returns the row of the nearest centroid, and the squared distance to it.

  Of equally near centroids the first is taken.
  """
  scores = _scores(x, centroids)
  smallest = jnp.min(scores, axis=-1)
  # The same as argmin, which XLA does not vectorise on CPU: ten times faster.
  rows = jnp.arange(len(centroids))[None]
  row = jnp.min(
    jnp.where(scores == smallest[:, None], rows, len(centroids) - 1), axis=-1
  )
  return row, jnp.maximum(smallest + jnp.sum(x**2, axis=-1), 0)


def _scores(x, centroids):
  """Returns squared distances less |x|^2, the same for every centroid."""
  # Accelerators round the factors of a product unless told not to, which is
  # enough to choose another code.
  products = jnp.einsum('bz,vz->bv', x, centroids, precision='highest')
  return jnp.sum(centroids**2, axis=-1)[None] - 2 * products


def lloyd(
  x: Float[Array, 'b z'],
  centroids: Float[Array, 'v z'],
  num_points: int | Int[Array, ''],
  num_clusters: int | Int[Array, ''],
) -> Float[Array, 'v z']:
  """Moves every centroid to the mean of the points nearest to it.

  A centroid that is nearest to no point is moved to a point far from its own.
  Only the first points and centroids count.
  """
  max_clusters = len(centroids)
  codes, distances = nearest(x, centroids)
  counts = (jnp.arange(len(x)) < num_points).astype(x.dtype)
  sums = jax.ops.segment_sum(x * counts[:, None], codes, max_clusters)
  sizes = jax.ops.segment_sum(counts, codes, max_clusters)
  means = sums / jnp.maximum(sizes, 1)[:, None]
  used = jnp.arange(max_clusters) < num_clusters
  empty = (sizes == 0) & used
  # The first empty cluster gets the farthest point, the second the next, ...
  _, farthest = lax.top_k(distances * counts, max_clusters)
  refill = x[farthest[jnp.cumsum(empty) - 1]]
  means = jnp.where(empty[:, None], refill, means)
  return jnp.where(used[:, None], means, means[:1])


def _power_of_two(n):
  return 1 << (n - 1).bit_length()


@functools.partial(jax.jit, static_argnums=(4, 5))
def _fit(rng, x, num_points, num_clusters, max_clusters, num_iterations):
  """Fits to the first `num_points` points.

  Centroids from `num_clusters` on repeat the first: as of equally near ones
  the first is taken, no point is ever theirs.
  """
  used = jnp.arange(max_clusters)[:, None] < num_clusters
  seeds = _plus_plus(rng, x, num_points, max_clusters)
  return lax.fori_loop(
    0,
    num_iterations,
    lambda _, centroids: lloyd(x, centroids, num_points, num_clusters),
    jnp.where(used, seeds, seeds[:1]),
  )


def _plus_plus(rng, x, num_points, num_clusters):
  """Draws seeds in proportion to their squared distance to earlier seeds.

  Of a few candidates the one is kept that leaves the least distance, as
  scikit-learn does it.
  """
  num_candidates = 2 + int(math.log(num_clusters))
  squares = jnp.sum(x**2, axis=-1)

  def draw(i, carry):
    seeds, distances = carry
    # The first is drawn from all alike.
    weights = jnp.where(jnp.isinf(distances), 1, distances)
    cumulative = jnp.cumsum(weights)
    shape = (num_candidates,)
    points = jax.random.uniform(jax.random.fold_in(rng, i), shape)
    rows = jnp.searchsorted(cumulative, points * cumulative[-1], side='right')
    # Where every point is a seed already, the last is drawn again.
    rows = jnp.minimum(rows, len(x) - 1)
    products = jnp.einsum('cz,nz->cn', x[rows], x, precision='highest')
    to_candidates = squares[rows][:, None] + squares[None] - 2 * products
    left = jnp.minimum(distances[None], jnp.maximum(to_candidates, 0))
    best = jnp.argmin(jnp.sum(left, axis=-1))
    # A seed is at no distance from itself, whatever rounding says.
    distances = left[best].at[rows[best]].set(0)
    return seeds.at[i].set(x[rows[best]]), distances

  seeds = jnp.zeros((num_clusters, x.shape[1]), x.dtype)
  # The distance of a point that does not count is 0, so it is never drawn.
  distances = jnp.where(jnp.arange(len(x)) < num_points, jnp.inf, 0)
  distances = distances.astype(x.dtype)
  return lax.fori_loop(0, num_clusters, draw, (seeds, distances))[0]
