"""Prefixes of valid Semantic IDs on the device, and what may follow them."""

import dataclasses
import math
from typing import Any, NamedTuple

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Integer
import numpy as np

from tiger_jax.catalog.layout import Arrays, Layout

# Every index is in range by construction; checking costs more than reading.
_IN_BOUNDS: dict[str, Any] = {'mode': 'promise_in_bounds'}


class Children(NamedTuple):
  """What may follow each beam's prefix.

  Attributes:
    codes: The codes `[b, m, w]`, rising; None where they are all codes.
    valid: Which of them lead to an item.
  """

  codes: Integer[Array, 'b m w'] | None
  valid: Bool[Array, 'b m w']


class Prefixes(NamedTuple):
  """Where beams stand in the catalogue.

  Attributes:
    number: The codes so far as one number, while levels are bitmaps.
    first: The slot of the first item with this prefix, from then on.
    end: The slot after the last.
  """

  number: Integer[Array, '*b'] | None
  first: Integer[Array, '*b'] | None
  end: Integer[Array, '*b'] | None

  @property
  def slots(self) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    """Where the ranges begin and end, once levels are no bitmaps."""
    assert self.first is not None and self.end is not None
    return self.first, self.end


@dataclasses.dataclass(frozen=True)
class Trie:
  """The valid IDs, sorted, as a search walks through them.

  Every item has a slot: its place among the IDs in order. A prefix is thus a
  range of slots, and the range of a longer prefix is found by bisection. What
  may follow a prefix is a row of a bitmap at the first levels, where most of
  the codes do; later the codes stand in the range itself.
  """

  layout: Layout
  arrays: Arrays

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Codes at each level."""
    return self.layout.level_sizes

  def root(self, batch_size: int) -> Prefixes:
    """Returns the empty prefix of one beam for every request."""
    none = jnp.zeros((batch_size, 1), jnp.int32)
    if self.layout.num_bitmaps:
      return Prefixes(none, None, None)
    return Prefixes(None, none, none + self.arrays.offsets[-1])

  def children(self, level: int, prefixes: Prefixes) -> Children:
    """Returns what may follow each prefix of `level` codes."""
    if prefixes.number is not None:
      size = self.level_sizes[level]
      words = self.arrays.bitmaps[level].at[prefixes.number].get(**_IN_BOUNDS)
      bits = words[..., None] >> np.arange(32, dtype=np.uint32)[(None,) * 3]
      bits = bits.reshape(*words.shape[:-1], -1)[..., :size] & np.uint32(1)
      return Children(None, bits.astype(bool))
    start, count = self._listed(level, prefixes)
    width = self.layout.width(level)
    place = jnp.arange(width, dtype=jnp.int32)[None, None]
    codes = self._column(level).at[start[..., None] + place].get(**_IN_BOUNDS)
    valid = place < count[..., None]
    if level < self.layout.num_levels - 1:
      again = codes[..., 1:] == codes[..., :-1]
      valid &= jnp.pad(~again, ((0, 0), (0, 0), (1, 0)), constant_values=True)
    return Children(codes, valid)

  def place(
    self, level: int, prefixes: Prefixes, code: Integer[Array, '*b']
  ) -> Integer[Array, '*b']:
    """Returns where in `children` a code that is a child stands."""
    if prefixes.number is not None:
      return code
    start, count = self._listed(level, prefixes)
    most = max(self.layout.span(level), self.layout.width(level))
    column = self._column(level)
    return _lower_bound(column, start, start + count, code, most) - start

  def descend(
    self, level: int, prefixes: Prefixes, code: Integer[Array, 'b n']
  ) -> Prefixes:
    """Returns the prefixes one code longer.

    The range of a prefix that no item has is empty.
    """
    if prefixes.number is None:
      return self._narrow(level, prefixes, code)
    number = prefixes.number * self.level_sizes[level] + code
    if level + 1 < self.layout.num_bitmaps:
      return Prefixes(number, None, None)
    return self._range(level + 1, number)

  def item(
    self, prefixes: Prefixes, place: Integer[Array, 'b n']
  ) -> Integer[Array, 'b n']:
    """Returns the rows of the items at a place in the last `children`."""
    slot = jnp.minimum(prefixes.slots[0] + place, len(self.arrays.rows) - 1)
    return self.arrays.rows.at[slot].get(**_IN_BOUNDS)

  def ranges(
    self, codes: Integer[Array, '*b l']
  ) -> list[tuple[Integer[Array, '*b'], Integer[Array, '*b']]]:
    """Returns the first and end slot of the prefixes of 1, 2, ... codes."""
    found = []
    number = jnp.zeros(codes.shape[:-1], jnp.int32)
    prefixes = Prefixes(None, number, number + self.arrays.offsets[-1])
    for level, size in enumerate(self.level_sizes):
      code = codes[..., level]
      if level < self.layout.offsets_depth:
        number = number * size + code
        prefixes = self._range(level + 1, number)
      else:
        prefixes = self._narrow(level, prefixes, code)
      found.append(prefixes.slots)
    return found

  def lookup(self, codes: Integer[Array, '*b l']) -> Integer[Array, '*b']:
    """Returns the item row of each Semantic ID, -1 for invalid ones."""
    sizes = jnp.asarray(self.level_sizes).reshape(
      (1,) * (codes.ndim - 1) + (-1,)
    )
    in_range = ((codes >= 0) & (codes < sizes)).all(-1)
    first, end = self.ranges(jnp.clip(codes, 0, sizes - 1))[-1]
    row = self.arrays.rows.at[first].get(mode='clip')
    return jnp.where(in_range & (first < end), row, -1)

  def _column(self, level: int) -> Integer[Array, ' _']:
    return self.arrays.columns[level - self.layout.offsets_depth]

  def _listed(
    self, level: int, prefixes: Prefixes
  ) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    """Returns where in the column the children begin, and how many follow."""
    first, end = prefixes.slots
    if self.layout.scan(level) >= self.layout.span(level):
      return first, end - first
    nodes = self.arrays.large[level - self.layout.num_bitmaps]
    zero, most = jnp.zeros_like(first), len(nodes.first)
    node = _lower_bound(nodes.first, zero, zero + most, first, most)
    start = nodes.start.at[node].get(mode='clip')
    stop = nodes.start.at[node + 1].get(mode='clip')
    large = end - first > self.layout.scan(level)
    return (
      jnp.where(large, start, first),
      jnp.where(large, stop - start, end - first),
    )

  def _range(self, depth: int, number: Integer[Array, '*b']) -> Prefixes:
    """Returns the range of a prefix that is given as a number."""
    sizes = self.level_sizes
    offsets_depth = self.layout.offsets_depth
    if depth < offsets_depth:
      longer = math.prod(sizes[depth:offsets_depth])
      first, end = number * longer, (number + 1) * longer
      return Prefixes(None, self._offset(first), self._offset(end))
    rest = math.prod(sizes[offsets_depth:depth])
    short = number // rest
    prefixes = Prefixes(None, self._offset(short), self._offset(short + 1))
    for level in range(offsets_depth, depth):
      number = number % rest
      rest //= sizes[level]
      prefixes = self._narrow(level, prefixes, number // rest)
    return prefixes

  def _offset(self, number: Integer[Array, '*b']) -> Integer[Array, '*b']:
    return self.arrays.offsets.at[number].get(**_IN_BOUNDS)

  def _narrow(
    self, level: int, prefixes: Prefixes, code: Integer[Array, '*b']
  ) -> Prefixes:
    """Returns the part of the ranges that goes on with `code`."""
    low, high = (jnp.stack([x, x]) for x in prefixes.slots)
    code = code.astype(jnp.int32)
    values = jnp.stack([code, code + 1])
    first, end = _lower_bound(
      self._column(level), low, high, values, self.layout.span(level)
    )
    return Prefixes(None, first, end)


def _lower_bound(
  column: Integer[Array, ' _'],
  low: Integer[Array, '*b'],
  high: Integer[Array, '*b'],
  value: Integer[Array, '*b'],
  most: int,
) -> Integer[Array, '*b']:
  """Returns the first place in each range whose entry is no less than `value`.

  Entries rise within every range from `low` to `high`, and no range is longer
  than `most`.
  """

  def halve(
    _: Any, ends: tuple[Integer[Array, '*b'], Integer[Array, '*b']]
  ) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    low, high = ends
    middle = (low + high) // 2
    entry = column.at[jnp.minimum(middle, len(column) - 1)].get(**_IN_BOUNDS)
    less = (low < high) & (entry.astype(jnp.int32) < value)
    return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

  # Written without a loop, XLA would bisect anew for every child of a beam.
  return lax.fori_loop(0, most.bit_length(), halve, (low, high))[0]
