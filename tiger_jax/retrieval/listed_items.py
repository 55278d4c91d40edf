"""Follows listed items through the levels of a beam search."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from tiger_jax.catalog.trie import Prefixes, Trie


class ListedItems(NamedTuple):
  """The positions of the listed items of each request in a search.

  Attributes:
    codes: The Semantic IDs of the items `[b, f, l]`.
    beam: The beam `[b, f]` that is a prefix of each item; -1 for none.
    place: The index `[b, f]` of each item among the candidates of the level, or
      an index after the last candidate for an item without a beam.
  """

  codes: Int[Array, 'b f l']
  beam: Int[Array, 'b f']
  place: Int[Array, 'b f']

  @classmethod
  def start(
    cls,
    trie: Trie,
    rows: Int[Array, 'b f'],
    codes: Int[Array, 'b f l'],
    slots: tuple[Integer[Array, 'b f'], Integer[Array, 'b f']],
  ) -> 'ListedItems':
    """Returns the positions before the first level.

    Rows that are not in the catalog have no beam.

    Args:
      trie: The index of the valid IDs.
      rows: The rows of the items.
      codes: The Semantic IDs of the items.
      slots: The slot ranges of the full IDs: `trie.ranges(codes)[-1]`.
    """
    first, end = slots
    slot = jnp.minimum(first, len(trie.arrays.rows) - 1)
    in_catalog = (first < end) & (trie.arrays.rows[slot] == rows)
    return cls(codes, jnp.where(in_catalog, 0, -1), jnp.zeros_like(rows))

  def at(
    self, level: int, trie: Trie, prefixes: Prefixes, num_candidates: int
  ) -> 'ListedItems':
    """Returns the positions among the candidates of a level."""
    num_beams = jax.tree.leaves(prefixes)[0].shape[1]
    index = jnp.maximum(self.beam, 0)
    item_prefixes = jax.tree.map(
      lambda x: jnp.take_along_axis(x, index, axis=1), prefixes
    )
    place = trie.place(level, item_prefixes, self.codes[:, :, level])
    place = index * (num_candidates // num_beams) + place
    return self._replace(place=jnp.where(self.beam >= 0, place, num_candidates))

  def advance(
    self, chosen: Int[Array, 'b m'], candidates: Float[Array, 'b n']
  ) -> 'ListedItems':
    """Returns the positions after the `chosen` candidates became the beams."""
    num_requests, num_candidates = candidates.shape
    row = jnp.arange(num_requests)[:, None]
    beam = jnp.full((num_requests, num_candidates + 1), -1, jnp.int32)
    beam = beam.at[row, chosen].set(
      jnp.arange(chosen.shape[1], dtype=jnp.int32)[None]
    )
    return self._replace(beam=jnp.take_along_axis(beam, self.place, axis=1))
