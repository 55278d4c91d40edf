"""The index of valid Semantic IDs that a search walks through."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int
import numpy as np

from tiger_jax.errors import DataError


class Catalog(NamedTuple):
  """A trie over Semantic IDs, as arrays that jit takes as arguments.

  A state is the number of a node within its level; the state after the last
  code is the item row. Rows are padded to a power of two, so that a catalogue
  which changes within its capacity compiles nothing anew.

  Attributes:
    children: For each level `[nodes, v]`: the state that each code leads to,
      -1 where no item continues so.
  """

  children: tuple[Int[Array, 'nodes v'], ...]

  @classmethod
  def from_codes(
    cls, codes: Int[np.ndarray, 'items l'], level_sizes: Sequence[int]
  ) -> 'Catalog':
    """Builds the index.

    Args:
      codes: A Semantic ID per item, all different.
      level_sizes: Codes at each level.

    Raises:
      DataError: Two items share an ID, or a code is out of range.
    """
    num_items, num_levels = codes.shape
    if (codes < 0).any() or (codes >= np.asarray(level_sizes)[None]).any():
      raise DataError(
        f'semantic IDs: a code lies outside the level sizes {level_sizes}; '
        'make the IDs again'
      )
    nodes = np.zeros(num_items, np.int64)
    num_nodes = 1
    children = []
    for level in range(num_levels):
      edges = nodes * level_sizes[level] + codes[:, level]
      distinct, nodes = np.unique(edges, return_inverse=True)
      last = level == num_levels - 1
      if last and len(distinct) < num_items:
        raise DataError(
          f'semantic IDs: {num_items - len(distinct)} of {num_items} items '
          'repeat the ID of another; resolve collisions first'
        )
      capacity = 1 << (num_nodes - 1).bit_length()
      table = np.full((capacity, level_sizes[level]), -1, np.int32)
      table.flat[edges if last else distinct] = np.arange(len(distinct))
      children.append(jnp.asarray(table))
      num_nodes = len(distinct)
    return cls(tuple(children))

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Codes at each level."""
    return tuple(table.shape[1] for table in self.children)

  def allowed(self, level: int, state: Int[Array, '*b']) -> Bool[Array, '*b v']:
    """Returns which codes lead on from `state`; none do from -1."""
    found = self.children[level][jnp.maximum(state, 0)] >= 0
    return found & (state >= 0)[..., None]

  def advance(
    self, level: int, state: Int[Array, '*b'], code: Int[Array, '*b']
  ) -> Int[Array, '*b']:
    """Returns the state that `code` leads to, -1 where it leads nowhere."""
    child = self.children[level][jnp.maximum(state, 0), code]
    return jnp.where(state >= 0, child, -1)

  def lookup(self, codes: Int[Array, '*b l']) -> Int[Array, '*b']:
    """Returns the item row of each Semantic ID, -1 for invalid ones."""
    state = jnp.zeros(codes.shape[:-1], jnp.int32)
    for level in range(len(self.children)):
      state = self.advance(level, state, codes[..., level])
    sizes = jnp.asarray(self.level_sizes).reshape(
      (1,) * (codes.ndim - 1) + (-1,)
    )
    in_range = ((codes >= 0) & (codes < sizes)).all(-1)
    return jnp.where(in_range, state, -1)
