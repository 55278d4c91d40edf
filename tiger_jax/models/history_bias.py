"""A learned logit bias for codes that lead to items of the history.

In most shops, users rarely buy an item twice. The bias lets the model learn how
rarely. It also lets it learn whether users buy other items with the same
prefix.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, Integer
import numpy as np

from tiger_jax.catalog.trie import Trie

# The values of `Candidates.seen`, apart from 0.
_SOME, _ALL = 1, 2


class Candidates(NamedTuple):
  """The codes that a model scores at one level.

  Attributes:
    codes: The codes to score after each prefix; None for all codes.
    seen: 0 if the history has no item with the prefix that ends with the code,
      1 if it has some of the items with this prefix, and 2 if it has all of
      them. None if unknown; the logits then lack the history bias.
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
    place: The index of each history item among the candidates. An item without
      a candidate has the index `num_candidates`.
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
    codes: The Semantic IDs of the items. All visible items are in the trie.
    visible: Whether each item precedes each target.
    place: The index of each code among the children of its prefix.
    all_seen: Whether every item of the trie that shares the first 1, 2, ..., l
      codes of this item precedes the target.
  """

  codes: Int[Array, 'b s l']
  visible: Bool[Array, 'b t s']
  place: Int[Array, 'b s l']
  all_seen: Bool[Array, 'b t s l']

  @classmethod
  def of(
    cls, trie: Trie, codes: Int[Array, 'b s l'], visible: Bool[Array, 'b t s']
  ) -> 'SeenItems':
    """Finds the prefixes of which every item precedes a target."""
    same = jnp.cumprod(codes[:, :, None] == codes[:, None], axis=3)
    same = same.astype(jnp.float32)
    earlier = np.tri(codes.shape[1], k=-1, dtype=np.float32)
    # An item that was bought twice counts once.
    num_repeated = jnp.einsum(
      'bsu,btu->bts',
      same[..., -1] * earlier[None],
      visible.astype(jnp.float32),
    )
    is_counted = visible & (num_repeated == 0)
    num_seen = jnp.einsum(
      'bsul,btu->btsl', same, is_counted.astype(jnp.float32)
    )
    num_items = [end - first for first, end in trie.ranges(codes)]
    all_seen = num_seen == jnp.stack(num_items, 2)[:, None]
    return cls(codes, visible, _places(trie, codes), all_seen)

  def mark(
    self, level: int, target_codes: Int[Array, 'b t l'], num_candidates: int
  ) -> Int8[Array, 'b t w']:
    """Returns `Candidates.seen` of the children of each target's prefix."""
    agrees = target_codes[:, :, None, :level] == self.codes[:, None, :, :level]
    place = jnp.where(
      self.visible & agrees.all(3),
      self.place[:, None, :, level],
      num_candidates,
    )
    return mark_seen(place, self.all_seen[..., level], num_candidates)


def _places(trie: Trie, codes: Int[Array, 'b s l']) -> Int[Array, 'b s l']:
  """Returns the index of each code among the children of its prefix."""
  prefixes = jax.tree.map(
    lambda x: jnp.broadcast_to(x, codes.shape[:2]), trie.root(len(codes))
  )
  places = []
  for level in range(codes.shape[2]):
    code = codes[..., level]
    places.append(trie.place(level, prefixes, code))
    if level + 1 < codes.shape[2]:
      prefixes = trie.descend(level, prefixes, code)
  return jnp.stack(places, 2)
