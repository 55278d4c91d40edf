"""A learned bias of the codes that lead to items of the history.

A beam search can end at items that the user already has. In the data of most
shops, the next item is almost never one of these. The bias lets a model learn
how rare they are, and whether users buy items with the same prefix.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, Integer
import numpy as np

from tiger_jax.catalog.trie import Prefixes, Trie

# The values of `Candidates.seen`, apart from 0.
_SOME, _ALL = 1, 2


class Candidates(NamedTuple):
  """The codes that a model scores at one level.

  Attributes:
    codes: The codes to score after each prefix; None for all codes.
    seen: Whether the history contains items with the prefix that ends with each
      code: 0 for no item, 1 for some of the items, and 2 for all items with
      this prefix. None if unknown.
  """

  codes: Integer[Array, 'b q w'] | None = None
  seen: Int8[Array, 'b q w'] | None = None


class HistoryBias(nn.Module):
  """A bias for each level and each value of `Candidates.seen`.

  The bias is a learned linear function of the decoder state. It is 0 at the
  start of training, and where `seen` is 0.
  """

  num_levels: int

  @nn.compact
  def __call__(
    self,
    level: int,
    x: Float[Array, 'b q d'],
    seen: Int8[Array, 'b q w'] | None,
  ) -> Float[Array, 'b q w'] | Float[Array, '']:
    """Returns the bias of each code for the decoder states `x`.

    The result is 0 if `seen` is None.
    """
    zeros = nn.initializers.zeros
    kernel = self.param('kernel', zeros, (self.num_levels, x.shape[-1], 2))
    table = self.param('table', zeros, (self.num_levels, 2))
    if seen is None:
      return jnp.zeros(())
    some, every = jnp.split(x @ kernel[level] + table[level][None, None], 2, -1)
    return jnp.where(seen == _ALL, every, jnp.where(seen == _SOME, some, 0))


def mark_seen(
  place: Int[Array, 'b q f'],
  all_seen: Bool[Array, '#b #q f'],
  num_candidates: int,
) -> Int8[Array, 'b q w']:
  """Returns `Candidates.seen`.

  Args:
    place: The index among the candidates of each item of the history. An item
      without a candidate has an index after the last one.
    all_seen: Whether the history contains all items of that candidate.
    num_candidates: The number of candidates.
  """
  index = jnp.indices(place.shape, sparse=True)[:2]
  seen = jnp.zeros((*place.shape[:2], num_candidates), jnp.int8)
  value = jnp.where(all_seen, _ALL, _SOME).astype(jnp.int8)
  return seen.at[*index, place].max(value, mode='drop')


class SeenItems(NamedTuple):
  """The items of the history before each training target.

  Attributes:
    codes: The Semantic IDs of the items.
    visible: Whether each item precedes each target.
    all_seen: Whether all items of the trie with the same first 1, 2, ..., l
      codes as the item precede the target.
  """

  codes: Int[Array, 'b s l']
  visible: Bool[Array, 'b t s']
  all_seen: Bool[Array, 'b t s l']

  @classmethod
  def of(
    cls, trie: Trie, codes: Int[Array, 'b s l'], visible: Bool[Array, 'b t s']
  ) -> 'SeenItems':
    """Counts the different items with each prefix."""
    same = jnp.cumprod(codes[:, :, None] == codes[:, None], axis=3)
    earlier = np.tri(codes.shape[1], k=-1, dtype=np.int32)
    # A later event of the same item adds no item.
    num_repeated = jnp.einsum(
      'bsu,btu->bts',
      same[..., -1] * earlier[None],
      visible.astype(jnp.int32),
    )
    is_counted = visible & (num_repeated == 0)
    num_seen = jnp.einsum('bsul,btu->btsl', same, is_counted.astype(jnp.int32))
    num_items = [end - first for first, end in trie.ranges(codes)]
    all_seen = num_seen == jnp.stack(num_items, 2)[:, None]
    return cls(codes, visible, all_seen)

  def mark(
    self,
    level: int,
    trie: Trie,
    prefixes: Prefixes,
    target_codes: Int[Array, 'b t l'],
    num_candidates: int,
  ) -> Int8[Array, 'b t w']:
    """Returns `Candidates.seen` of the children of each target's prefix."""
    agrees = target_codes[:, :, None, :level] == self.codes[:, None, :, :level]
    shape = self.visible.shape
    place = trie.place(
      level,
      jax.tree.map(lambda x: jnp.broadcast_to(x[..., None], shape), prefixes),
      jnp.broadcast_to(self.codes[:, None, :, level], shape),
    )
    place = jnp.where(self.visible & agrees.all(3), place, num_candidates)
    return mark_seen(place, self.all_seen[..., level], num_candidates)
