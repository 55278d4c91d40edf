"""Items that a request may or may not get, inside the search.

To leave items out of a finished list makes it short; to forbid only their last
codes lets beams run into prefixes where nothing is left. Here a prefix is
forbidden as soon as all of its items are, so that a search with m beams returns
m items as long as m are left.
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

# Lists are filled up to one of these, so that programs are few.
_LENGTHS = tuple(32 * 8**i for i in range(9))
# The most entries in the lists of all requests of one search. Each takes about
# 80 bytes.
_MOST_LISTED = 2**21


class ItemLists(NamedTuple):
  """A list of items for each request.

  Attributes:
    rows: Item rows `[b, f]`; -1 fills up. Those that the catalogue does not
      have are passed over.
    allow: Whether a request `[b]` gets only these items, or all but these.
  """

  rows: Int[Array, 'b f'] | Int[np.ndarray, 'b f']
  allow: Bool[Array, ' b'] | Bool[np.ndarray, ' b']

  @classmethod
  def of(
    cls,
    deny: Sequence[Iterable[int]],
    allow: Sequence[Iterable[int] | None] | None = None,
  ) -> 'ItemLists':
    """Makes lists of few different lengths.

    A request gets the rows of its entry in `allow` (None for all rows), except
    those of its entry in `deny`.
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
  def most_requests(longest: int) -> int:
    """Returns the most requests of one search, so that memory is bounded.

    The longest list has `longest` items.
    """
    return max(1, _MOST_LISTED // _width(longest))

  def with_codes(self, codes: Codes) -> 'ItemFilter':
    """Adds the Semantic IDs of the items, from those of all rows."""
    rows = jnp.asarray(self.rows)
    return ItemFilter(rows, codes[rows], jnp.asarray(self.allow))


def _width(longest: int) -> int:
  return next(w for w in _LENGTHS if w >= longest)


class ItemFilter(NamedTuple):
  """Lists of items, see `ItemLists`, with their Semantic IDs `[b, f, l]`."""

  rows: Int[Array, 'b f']
  codes: Int[Array, 'b f l']
  allow: Bool[Array, ' b']

  def start(self, trie: Trie) -> 'Walk':
    """Returns the state before the first code."""
    ranges = trie.ranges(self.codes)
    first, end = ranges[-1]
    slot = jnp.minimum(first, len(trie.arrays.rows) - 1)
    there = (first < end) & (trie.arrays.rows[slot] == self.rows)
    slots = jnp.sort(jnp.where(there, first, NEVER), axis=1)
    # How many different ones there are among the first n, at n.
    new = slots[:, 1:] != slots[:, :-1]
    number = jnp.pad(jnp.cumsum(new, axis=1) + 1, ((0, 0), (2, 0)))
    number = number.at[:, 1].set(1)
    before = jax.vmap(jnp.searchsorted)
    gone = []
    for first, end in ranges:
      upto = [
        jnp.take_along_axis(number, before(slots, x), 1) for x in (first, end)
      ]
      gone.append(upto[1] - upto[0] == end - first)
    return Walk(
      self.codes,
      self.allow,
      jnp.stack(gone, 2),
      jnp.where(there, 0, -1),
      jnp.zeros_like(self.rows),
    )


class Walk(NamedTuple):
  """Where the listed items stand while beams pass through the levels.

  Attributes:
    codes: Their Semantic IDs `[b, f, l]`.
    allow: Whether a request `[b]` gets only these items.
    gone: Whether all items with the first 1, 2, ... codes are listed,
      `[b, f, l]`.
    beam: The beam `[b, f]` that an item's prefix is, -1 for none.
    place: Among the candidates of the level `[b, f]`, where its code is.
  """

  codes: Int[Array, 'b f l']
  allow: Bool[Array, ' b']
  gone: Bool[Array, 'b f l']
  beam: Int[Array, 'b f']
  place: Int[Array, 'b f']

  def masked(
    self,
    candidates: Float[Array, 'b n'],
    level: int,
    trie: Trie,
    prefixes: Prefixes,
  ) -> tuple[Float[Array, 'b n'], 'Walk']:
    """Returns the candidates, -inf where none of their items may be had."""
    num_requests, num_candidates = candidates.shape
    num_beams = jax.tree.leaves(prefixes)[0].shape[1]
    index = jnp.maximum(self.beam, 0)
    of_beam = jax.tree.map(
      lambda x: jnp.take_along_axis(x, index, axis=1), prefixes
    )
    place = trie.place(level, of_beam, self.codes[:, :, level])
    place = index * (num_candidates // num_beams) + place
    place = jnp.where(self.beam >= 0, place, num_candidates)
    row = jnp.arange(num_requests)[:, None]
    refused = self.gone[:, :, level] & ~self.allow[:, None]
    candidates = candidates.at[
      row, jnp.where(refused, place, num_candidates)
    ].set(-jnp.inf, mode='drop')
    listed = jnp.zeros(candidates.shape, bool)
    listed = listed.at[row, place].set(True, mode='drop')
    candidates = jnp.where(listed | ~self.allow[:, None], candidates, -jnp.inf)
    return candidates, self._replace(place=place)

  def followed(self, chosen: Int[Array, 'b m'], num_candidates: int) -> 'Walk':
    """Returns the state after some of the candidates became the beams."""
    num_requests, num_beams = chosen.shape
    row = jnp.arange(num_requests)[:, None]
    beam = jnp.full((num_requests, num_candidates + 1), -1, jnp.int32)
    beam = beam.at[row, chosen].set(
      jnp.arange(num_beams, dtype=jnp.int32)[None]
    )
    return self._replace(beam=jnp.take_along_axis(beam, self.place, axis=1))
