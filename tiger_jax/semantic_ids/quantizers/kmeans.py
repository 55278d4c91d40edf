"""k-means on the device: k-means++ seeding and Lloyd's iterations."""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import UsageError

# Quantizers are fitted to at most this many items. More items do not improve
# the codes.
MAX_ITEMS = 2**18


def fit(
  rng: jax.Array,
  x: Float[Array, 'items z'],
  num_clusters: int,
  num_iterations: int,
) -> Float[Array, 'v z']:
  """Finds the centroids of `num_clusters` clusters.

  The centroid of an empty cluster is moved to one of the points that are
  farthest from their nearest centroids. If fewer than `num_clusters` points are
  distinct, centroids repeat.

  Raises:
    UsageError: There are more clusters than points.
  """
  if len(x) < num_clusters:
    raise UsageError(
      f'k-means cannot make {num_clusters} codes from {len(x)} items: set '
      f'config.semantic_ids.codebook_sizes to {len(x)} or less'
    )
  return _fit(rng, x, len(x), num_clusters, num_clusters, num_iterations)


def fit_padded(
  rng: jax.Array,
  x: Float[np.ndarray, 'items z'],
  num_clusters: int,
  num_iterations: int,
) -> Float[np.ndarray, 'v z']:
  """Does the same as `fit` on host arrays, padded to avoid recompilation."""
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

  Ties go to the first centroid.
  """
  scores = _scores(x, centroids)
  smallest = jnp.min(scores, axis=-1)
  # Ten times faster than argmin, which XLA does not vectorize on CPU.
  rows = jnp.arange(len(centroids))[None]
  row = jnp.min(
    jnp.where(scores == smallest[:, None], rows, len(centroids) - 1), axis=-1
  )
  return row, jnp.maximum(smallest + jnp.sum(x**2, axis=-1), 0)


def _scores(x, centroids):
  """Returns squared distances minus |x|^2, which all centroids share."""
  # By default, accelerators round the factors of a product, which can change
  # the nearest code.
  products = jnp.einsum('bz,vz->bv', x, centroids, precision='highest')
  return jnp.sum(centroids**2, axis=-1)[None] - 2 * products


def lloyd(
  x: Float[Array, 'b z'],
  centroids: Float[Array, 'v z'],
  num_points: int | Int[Array, ''],
  num_clusters: int | Int[Array, ''],
) -> Float[Array, 'v z']:
  """Moves every centroid to the mean of the points nearest to it.

  A centroid without points is moved to a point that is far from its nearest
  centroid. Only the first `num_points` points and `num_clusters` centroids
  count.
  """
  max_clusters = len(centroids)
  codes, distances = nearest(x, centroids)
  weights = (jnp.arange(len(x)) < num_points).astype(x.dtype)
  sums = jax.ops.segment_sum(x * weights[:, None], codes, max_clusters)
  sizes = jax.ops.segment_sum(weights, codes, max_clusters)
  means = sums / jnp.maximum(sizes, 1)[:, None]
  used = jnp.arange(max_clusters) < num_clusters
  empty = (sizes == 0) & used
  # The n-th empty cluster gets the n-th farthest point.
  _, farthest = lax.top_k(distances * weights, max_clusters)
  refill = x[farthest[jnp.cumsum(empty) - 1]]
  means = jnp.where(empty[:, None], refill, means)
  return jnp.where(used[:, None], means, means[:1])


def _power_of_two(n):
  return 1 << (n - 1).bit_length()


@functools.partial(jax.jit, static_argnums=(4, 5))
def _fit(rng, x, num_points, num_clusters, max_clusters, num_iterations):
  """Fits `num_clusters` centroids to the first `num_points` points.

  The other centroids repeat the first one, and get no points because ties go to
  the first.
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
  """Draws seeds in proportion to the squared distance to earlier seeds.

  As in scikit-learn, each draw has several candidates, and the one that leaves
  the smallest total distance becomes the seed.
  """
  num_candidates = 2 + int(math.log(num_clusters))
  squares = jnp.sum(x**2, axis=-1)

  def draw(i, carry):
    seeds, distances = carry
    # The first seed is drawn uniformly.
    weights = jnp.where(jnp.isinf(distances), 1, distances)
    cumulative = jnp.cumsum(weights)
    shape = (num_candidates,)
    uniform = jax.random.uniform(jax.random.fold_in(rng, i), shape)
    rows = jnp.searchsorted(cumulative, uniform * cumulative[-1], side='right')
    # If every point is a seed already, this draws the last point again.
    rows = jnp.minimum(rows, len(x) - 1)
    products = jnp.einsum('cz,nz->cn', x[rows], x, precision='highest')
    to_candidates = squares[rows][:, None] + squares[None] - 2 * products
    remaining = jnp.minimum(distances[None], jnp.maximum(to_candidates, 0))
    best = jnp.argmin(jnp.sum(remaining, axis=-1))
    # Correct the rounding error in the distance of a seed to itself.
    distances = remaining[best].at[rows[best]].set(0)
    return seeds.at[i].set(x[rows[best]]), distances

  seeds = jnp.zeros((num_clusters, x.shape[1]), x.dtype)
  # Padding has distance 0, so it is never drawn.
  distances = jnp.where(jnp.arange(len(x)) < num_points, jnp.inf, 0)
  distances = distances.astype(x.dtype)
  return lax.fori_loop(0, num_clusters, draw, (seeds, distances))[0]
