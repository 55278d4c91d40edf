"""Hierarchical k-means: clusters within clusters, like the docids of DSI.

Tay et al., Transformer Memory as a Differentiable Search Index, 2022, section
3.2. A code is the number of a child within one node, so it is meaningless
without the codes before it.
"""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.quantizers import kmeans

_KMEANS_ITERATIONS = 30
# Number of items that descend the tree at once. Each item gathers the centroids
# of all children of its node, so the batch size limits the memory.
_DESCENT_BATCH = 64


class HierarchicalKmeans(NamedTuple):
  """Implements `Quantizer`, which documents the methods.

  The nodes of each level below the root are numbered. All nodes have children,
  except those of the last level.

  Attributes:
    mean: Mean of the embeddings.
    centroids: For each level, the centroids of its nodes minus `mean`, because
      products of centered vectors have the smallest rounding errors.
    children: For each level, an array with one row per node of the level above.
      Entry `c` of a row is the number of the child with code `c`, or -1 if
      there is no such child.
  """

  mean: Float[Array, ' dim']
  centroids: tuple[Float[Array, '_ dim'], ...]
  children: tuple[Int[Array, '_ v'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level: the largest number of children."""
    return tuple(children.shape[1] for children in self.children)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Descends from the root to the nearest child at every level."""

    def descend(x):
      node, codes = 0, []
      for level, children in enumerate(self.children):
        codes.append(jnp.argmin(self._distances(x, node, level)))
        node = children[node, codes[-1]]
      return jnp.stack(codes)

    return lax.map(descend, x - self.mean[None], batch_size=_DESCENT_BATCH)

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Returns the squared distances to the children of a node."""
    x = x - self.mean[None]
    node = jnp.zeros(len(x), jnp.int32)
    for children, code in zip(self.children[:level], codes.T, strict=False):
      node = children[node, code]
    return lax.map(
      lambda at: self._distances(at[0], at[1], level),
      (x, node),
      batch_size=_DESCENT_BATCH,
    )

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Returns the centroids of the nodes on the path."""
    node, path = jnp.zeros(len(codes), jnp.int32), []
    for centroids, children, code in zip(
      self.centroids, self.children, codes.T, strict=True
    ):
      node = children[node, code]
      path.append(centroids[node])
    return jnp.stack(path, axis=1) + self.mean[None, None]

  def _distances(self, x, node, level):
    rows = self.children[level][node]
    # Squared differences make the distance of an item to itself exactly 0.
    squares = jnp.sum((self.centroids[level][rows] - x[None]) ** 2, axis=-1)
    return jnp.where(rows >= 0, squares, jnp.inf)


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
  *,
  max_items: int = kmeans.MAX_ITEMS,
) -> HierarchicalKmeans:
  """Builds a tree from the root down, with at most `sizes` codes at each level.

  A node with n items and d levels below it gets about n^(1/d) children, so that
  few items share all codes. At the last level, every item becomes a child if
  the level has enough codes. If there are more than `max_items` items, the tree
  is built from a sample.
  """
  x = item_batches.sample(embeddings, max_items)
  mean, _ = item_batches.statistics(x)
  # Number of items that each item of the sample represents.
  weight = len(embeddings) / len(x)
  tree = HierarchicalKmeans(jnp.asarray(mean), (), ())
  codes_fn = jax.jit(HierarchicalKmeans.codes)
  node = np.zeros(len(x), np.int32)
  for level, size in enumerate(sizes):
    counts = np.bincount(node)
    groups = np.split(np.argsort(node, kind='stable'), np.cumsum(counts)[:-1])
    centroids = []
    for i, group in enumerate(groups):
      num_items = math.ceil(weight * len(group))
      num_children = min(
        size, len(group), _ceil_root(num_items, len(sizes) - level)
      )
      rng_node = jax.random.fold_in(jax.random.fold_in(rng, level), i)
      centroids.append(_cluster(rng_node, x[group] - mean, num_children))
    codes = functools.partial(codes_fn, _add_level(tree, centroids))
    code = item_batches.map_items(codes, x)[:, level]
    # Drop children that are not nearest to any item, such as duplicates.
    used = [np.unique(code[group]) for group in groups]
    tree = _add_level(
      tree, [c[kept] for c, kept in zip(centroids, used, strict=True)]
    )
    # The nodes of a level are numbered in the order of (parent, code).
    node = np.unique(node.astype(np.int64) * size + code, return_inverse=True)[
      1
    ].astype(np.int32)
  return tree


def _ceil_root(n, degree):
  """Returns the smallest integer root with `root**degree >= n`."""
  root = int(n ** (1 / degree))
  while root**degree < n:
    root += 1
  return root


def _cluster(rng, x, num_clusters):
  if len(x) == num_clusters:
    return x
  return kmeans.fit_padded(rng, x, num_clusters, _KMEANS_ITERATIONS)


def _add_level(tree, centroids):
  """Adds a level; `centroids` has one array of children per node."""
  counts = np.array([len(children) for children in centroids])
  codes = np.arange(counts.max())[None]
  rows = (np.cumsum(counts) - counts)[:, None] + codes
  children = np.where(codes < counts[:, None], rows, -1).astype(np.int32)
  return HierarchicalKmeans(
    tree.mean,
    (*tree.centroids, jnp.asarray(np.concatenate(centroids))),
    (*tree.children, jnp.asarray(children)),
  )
