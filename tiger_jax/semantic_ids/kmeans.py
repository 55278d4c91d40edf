"""k-means on the device: k-means++ seeds, then Lloyd's iterations."""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.errors import UsageError


def fit(
  rng: jax.Array,
  x: Float[Array, 'items z'],
  num_clusters: int,
  num_iterations: int,
) -> Float[Array, 'v z']:
  """Finds the centroids of `num_clusters` clusters.

  A cluster that loses all its points is moved to one of the points that are
  farthest from their centroid. Points that repeat are no error, but where
  fewer than `num_clusters` differ, centroids repeat too.

  Args:
    rng: The key of the seeding; what follows is deterministic.
    x: The points.
    num_clusters: Clusters, at most as many as there are points.
    num_iterations: Lloyd's iterations.

  Returns:
    The centroids.

  Raises:
    UsageError: There are more clusters than points.
  """
  if len(x) < num_clusters:
    raise UsageError(
      f'k-means cannot make {num_clusters} codes of {len(x)} items: set '
      f'config.semantic_ids.codebook_sizes to {len(x)} or less'
    )
  return _fit(rng, x, num_clusters, num_iterations)


def squared_distances(
  x: Float[Array, 'b z'], centroids: Float[Array, 'v z']
) -> Float[Array, 'b v']:
  """Returns the squared distance of every point to every centroid."""
  squares = jnp.sum(x**2, axis=-1)[:, None]
  return jnp.maximum(squares + _scores(x, centroids), 0)


def nearest(
  x: Float[Array, 'b z'], centroids: Float[Array, 'v z']
) -> tuple[Int[Array, ' b'], Float[Array, ' b']]:
  """Finds the nearest centroid of every point.

  Args:
    x: The points.
    centroids: The centroids; of equally near ones the first is taken.

  Returns:
    The row of the nearest centroid, and the squared distance to it.
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


@functools.partial(jax.jit, static_argnums=(2, 3))
def _fit(rng, x, num_clusters, num_iterations):
  centroids = _plus_plus(rng, x, num_clusters)
  return lax.fori_loop(
    0, num_iterations, lambda _, centroids: _lloyd(x, centroids), centroids
  )


def _plus_plus(rng, x, num_clusters):
  """Draws seeds in proportion to their squared distance to earlier seeds.

  Of a few candidates the one is kept that leaves the least distance, as
  scikit-learn does it.
  """
  num_candidates = 2 + int(math.log(num_clusters))
  squares = jnp.sum(x**2, axis=-1)

  def draw(i, carry):
    seeds, distances = carry
    cumulative = jnp.cumsum(distances)
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
  distances = jnp.ones(len(x), x.dtype)
  return lax.fori_loop(0, num_clusters, draw, (seeds, distances))[0]


def _lloyd(x, centroids):
  """Moves every centroid to the mean of the points nearest to it."""
  num_clusters = len(centroids)
  codes, distances = nearest(x, centroids)
  sums = jax.ops.segment_sum(x, codes, num_clusters)
  sizes = jax.ops.segment_sum(jnp.ones_like(distances), codes, num_clusters)
  means = sums / jnp.maximum(sizes, 1)[:, None]
  empty = sizes == 0
  # The first empty cluster gets the farthest point, the second the next, ...
  _, farthest = lax.top_k(distances, num_clusters)
  refill = x[farthest[jnp.cumsum(empty) - 1]]
  return jnp.where(empty[:, None], refill, means)
