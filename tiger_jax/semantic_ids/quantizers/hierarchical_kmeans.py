"""Hierarchical k-means: clusters of clusters, as the docids of DSI are made.

Tay et al., Transformer Memory as a Differentiable Search Index, 2022, section
3.2. A code is the number of a node among the children of its parent, so it
means nothing without the codes before it.
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
# Items that descend side by side: each gathers the centroids of all children.
_SLICE = 64


class HierarchicalKmeans(NamedTuple):
  """A `Quantizer`; see there for what its methods take and return.

  Level by level below the root, nodes stand in one row, and every one has
  children, except on the last level.

  Attributes:
    mean: Of the embeddings; what follows is relative to it, for products of
      centred vectors lose the least to rounding.
    centroids: Per level, those of its nodes.
    children: Per level, for every node one level up: the rows of its children
      on this level, in the order of their codes, then -1 where others have
      more children.
  """

  mean: Float[Array, ' dim']
  centroids: tuple[Float[Array, '_ dim'], ...]
  children: tuple[Int[Array, '_ v'], ...]

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """How many codes each level has: the children of the widest node."""
    return tuple(children.shape[1] for children in self.children)

  def codes(self, x: Float[Array, 'b dim']) -> Int[Array, 'b l']:
    """Descends from the root, always to the nearest child."""

    def descend(x):
      node, codes = 0, []
      for level, children in enumerate(self.children):
        codes.append(jnp.argmin(self._distances(x, node, level)))
        node = children[node, codes[-1]]
      return jnp.stack(codes)

    return lax.map(descend, x - self.mean[None], batch_size=_SLICE)

  def distances(
    self, x: Float[Array, 'b dim'], codes: Int[Array, 'b l'], level: int
  ) -> Float[Array, 'b v']:
    """Tells how far the children of a node are, squared."""
    x = x - self.mean[None]
    node = jnp.zeros(len(x), jnp.int32)
    for children, code in zip(self.children[:level], codes.T, strict=False):
      node = children[node, code]
    return lax.map(
      lambda at: self._distances(at[0], at[1], level),
      (x, node),
      batch_size=_SLICE,
    )

  def reconstruct(self, codes: Int[Array, 'b l']) -> Float[Array, 'b l dim']:
    """Returns the centroids on the way down."""
    node, passed = jnp.zeros(len(codes), jnp.int32), []
    for centroids, children, code in zip(
      self.centroids, self.children, codes.T, strict=True
    ):
      node = children[node, code]
      passed.append(centroids[node])
    return jnp.stack(passed, axis=1) + self.mean[None, None]

  def _distances(self, x, node, level):
    rows = self.children[level][node]
    # Of the differences, so that an item is at no distance from itself.
    squares = jnp.sum((self.centroids[level][rows] - x[None]) ** 2, axis=-1)
    return jnp.where(rows >= 0, squares, jnp.inf)


def fit(
  rng: jax.Array,
  embeddings: Float[np.ndarray, 'items dim'],
  sizes: tuple[int, ...],
) -> HierarchicalKmeans:
  """Builds a tree from the root down, with at most `sizes` codes at each level.

  Each node gets as many children as let its items fill the levels left, so that
  they share few codes. On the last level every item is a child, if the level's
  codes suffice.
  """
  x = item_batches.sample(embeddings, kmeans.MAX_ITEMS)
  # Products of centred vectors lose the least to rounding.
  mean, _ = item_batches.statistics(x)
  # Each item of the sample stands for so many.
  weight = len(embeddings) / len(x)
  tree = HierarchicalKmeans(jnp.asarray(mean), (), ())
  codes_fn = jax.jit(HierarchicalKmeans.codes)
  node = np.zeros(len(x), np.int32)
  for level, size in enumerate(sizes):
    counts = np.bincount(node)
    groups = np.split(np.argsort(node, kind='stable'), np.cumsum(counts)[:-1])
    grown = []
    for i, group in enumerate(groups):
      num_items = math.ceil(weight * len(group))
      num_children = min(
        size, len(group), _ceil_root(num_items, len(sizes) - level)
      )
      rng_node = jax.random.fold_in(jax.random.fold_in(rng, level), i)
      grown.append(_cluster(rng_node, x[group] - mean, num_children))
    codes = functools.partial(codes_fn, _add_level(tree, grown))
    code = item_batches.map_items(codes, x)[:, level]
    # A child that no item is nearest to is none; a duplicate's, for one.
    used = [np.unique(code[group]) for group in groups]
    tree = _add_level(
      tree, [c[kept] for c, kept in zip(grown, used, strict=True)]
    )
    # Nodes, and their children in turn, are in the order of (node, code).
    node = np.unique(node.astype(np.int64) * size + code, return_inverse=True)[
      1
    ].astype(np.int32)
  return tree


def _ceil_root(n, degree):
  """Returns the least number whose power is at least `n`."""
  root = int(n ** (1 / degree))
  while root**degree < n:
    root += 1
  return root


def _cluster(rng, x, num_clusters):
  if len(x) == num_clusters:
    return x
  return kmeans.fit_padded(rng, x, num_clusters, _KMEANS_ITERATIONS)


def _add_level(tree, grown):
  """Adds the children of every node, given by their centroids."""
  counts = np.array([len(centroids) for centroids in grown])
  codes = np.arange(counts.max())[None]
  rows = (np.cumsum(counts) - counts)[:, None] + codes
  children = np.where(codes < counts[:, None], rows, -1).astype(np.int32)
  return HierarchicalKmeans(
    tree.mean,
    (*tree.centroids, jnp.asarray(np.concatenate(grown))),
    (*tree.children, jnp.asarray(children)),
  )
