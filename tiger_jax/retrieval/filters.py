"""Item filters that apply inside the beam search.

Filtering the results of a search would leave too few items. Masking only the
last codes would waste beams on prefixes without any permitted item. This module
masks a prefix as soon as all of its items are excluded. A search with m beams
therefore returns m items if at least m are permitted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8

from tiger_jax.catalog.layout import NEVER
from tiger_jax.catalog.trie import Prefixes, Trie
from tiger_jax.interfaces import Codes, ItemLists
from tiger_jax.models import history_bias
from tiger_jax.retrieval.listed_items import ListedItems


class ItemFilter(NamedTuple):
  """Item lists (see `ItemLists`), with the items' Semantic IDs `[b, f, l]`."""

  rows: Int[Array, 'b f']
  codes: Int[Array, 'b f l']
  allow: Bool[Array, ' b']

  @classmethod
  def of(cls, lists: ItemLists, codes: Codes) -> 'ItemFilter':
    """Looks up the Semantic IDs of the listed items in `codes`."""
    rows = jnp.asarray(lists.rows)
    return cls(rows, codes[rows], jnp.asarray(lists.allow))

  def start(self, trie: Trie) -> 'FilterState':
    """Returns the state of the filter before the first level."""
    ranges = trie.ranges(self.codes)
    items = ListedItems.start(trie, self.rows, self.codes, ranges[-1])
    slots = jnp.where(items.beam >= 0, ranges[-1][0], NEVER)
    slots = jnp.sort(slots, axis=1)
    # Entry n is the number of distinct slots among the first n.
    is_new = slots[:, 1:] != slots[:, :-1]
    num_distinct = jnp.pad(jnp.cumsum(is_new, axis=1) + 1, ((0, 0), (2, 0)))
    num_distinct = num_distinct.at[:, 1].set(1)
    num_before = jax.vmap(jnp.searchsorted)
    all_listed = []
    for first, end in ranges:
      below_first, below_end = (
        jnp.take_along_axis(num_distinct, num_before(slots, x), 1)
        for x in (first, end)
      )
      all_listed.append(below_end - below_first == end - first)
    return FilterState(items, self.allow, jnp.stack(all_listed, 2))


class FilterState(NamedTuple):
  """The state of a filter during a search.

  Attributes:
    items: The positions of the listed items.
    allow: Whether each request `[b]` allows only its listed items.
    all_listed: Whether the list contains every item that has the same first 1,
      2, ..., l codes as the listed item, `[b, f, l]`.
  """

  items: ListedItems
  allow: Bool[Array, ' b']
  all_listed: Bool[Array, 'b f l']

  def mask(
    self,
    candidates: Float[Array, 'b n'],
    level: int,
    trie: Trie,
    prefixes: Prefixes,
  ) -> tuple[Float[Array, 'b n'], 'FilterState']:
    """Sets candidates without any permitted item to -inf."""
    num_requests, num_candidates = candidates.shape
    items = self.items.at(level, trie, prefixes, num_candidates)
    row = jnp.arange(num_requests)[:, None]
    is_denied = self.all_listed[:, :, level] & ~self.allow[:, None]
    candidates = candidates.at[
      row, jnp.where(is_denied, items.place, num_candidates)
    ].set(-jnp.inf, mode='drop')
    listed = jnp.zeros(candidates.shape, bool)
    listed = listed.at[row, items.place].set(True, mode='drop')
    candidates = jnp.where(listed | ~self.allow[:, None], candidates, -jnp.inf)
    return candidates, self._replace(items=items)

  def mark_seen(
    self, level: int, trie: Trie, prefixes: Prefixes, num_children: int
  ) -> tuple[Int8[Array, 'b m w'], 'FilterState']:
    """Returns `Candidates.seen`. The filter must list the history."""
    num_beams = jax.tree.leaves(prefixes)[0].shape[1]
    items = self.items.at(level, trie, prefixes, num_beams * num_children)
    seen = history_bias.mark_seen(
      items.place[:, None],
      self.all_listed[:, None, :, level],
      num_beams * num_children,
    )
    seen = seen.reshape(-1, num_beams, num_children)
    return seen, self._replace(items=items)

  def advance(
    self, chosen: Int[Array, 'b m'], candidates: Float[Array, 'b n']
  ) -> 'FilterState':
    """Returns the state after the `chosen` candidates became the beams."""
    return self._replace(items=self.items.advance(chosen, candidates))
