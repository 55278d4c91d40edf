"""Item filters that apply inside the beam search.

Filtering the results of a search would leave too few items. Masking only the
last codes would waste beams on prefixes without any permitted item. This module
masks a prefix as soon as all of its items are excluded. A search with m beams
therefore returns m items if at least m are permitted.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from tiger_jax.catalog.layout import NEVER
from tiger_jax.catalog.trie import Prefixes, Trie
from tiger_jax.interfaces import Codes
from tiger_jax.retrieval.listed_items import ListedItems

# Lists are padded to one of these lengths, so that few programs are compiled.
_LENGTHS = tuple(32 * 8**i for i in range(9))
# The maximum number of entries in all lists of one search. Each entry takes
# about 80 bytes.
_MAX_LISTED = 2**21


class ItemLists(NamedTuple):
  """A list of items for each request.

  Attributes:
    rows: Item rows `[b, f]`, padded with -1. Rows that are not in the catalog
      are ignored.
    allow: Whether each request `[b]` allows only its listed items. If False, it
      excludes them.
  """

  rows: Int[Array, 'b f'] | Int[np.ndarray, 'b f']
  allow: Bool[Array, ' b'] | Bool[np.ndarray, ' b']

  @classmethod
  def of(
    cls,
    deny: Sequence[Iterable[int]],
    allow: Sequence[Iterable[int] | None] | None = None,
  ) -> 'ItemLists':
    """Builds the lists of all requests.

    Args:
      deny: The rows that each request excludes, even if they are in `allow`.
      allow: The only rows that each request allows; None allows all rows.
    """
    rows = []
    allow = [None] * len(deny) if allow is None else allow
    for denied, allowed in zip(deny, allow, strict=True):
      denied = set(denied)
      rows.append(denied if allowed is None else set(allowed) - denied)
    longest = max(map(len, rows), default=0)
    table = np.full((len(rows), _width(longest)), -1, np.int32)
    for row, listed in zip(table, rows, strict=True):
      row[: len(listed)] = sorted(listed)
    return cls(table, np.array([x is not None for x in allow]))

  @staticmethod
  def max_requests(longest: int) -> int:
    """Returns the maximum number of requests in one search.

    The limit bounds the memory of a search. `longest` is the length of the
    longest list.
    """
    return max(1, _MAX_LISTED // _width(longest))

  def permits(self, rows: Int[Array, 'b n']) -> Bool[Array, 'b n']:
    """Returns whether each request permits each of the given rows."""
    listed = jnp.sort(jnp.asarray(self.rows), axis=1)
    index = jax.vmap(jnp.searchsorted)(listed, rows)
    nearest = jnp.take_along_axis(listed, index, axis=1, mode='clip')
    return (nearest == rows) == jnp.asarray(self.allow)[:, None]

  def with_codes(self, codes: Codes) -> 'ItemFilter':
    """Looks up the Semantic IDs of the listed items in `codes`."""
    rows = jnp.asarray(self.rows)
    return ItemFilter(rows, codes[rows], jnp.asarray(self.allow))


def _width(longest: int) -> int:
  return next(w for w in _LENGTHS if w >= longest)


class ItemFilter(NamedTuple):
  """Item lists (see `ItemLists`), with the items' Semantic IDs `[b, f, l]`."""

  rows: Int[Array, 'b f']
  codes: Int[Array, 'b f l']
  allow: Bool[Array, ' b']

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

  def advance(
    self, chosen: Int[Array, 'b m'], candidates: Float[Array, 'b n']
  ) -> 'FilterState':
    """Returns the state after the `chosen` candidates became the beams."""
    return self._replace(items=self.items.advance(chosen, candidates))
