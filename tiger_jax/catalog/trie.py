"""A trie of the valid Semantic IDs, for search on the device."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer
import numpy as np

from tiger_jax.catalog.layout import Arrays, Layout

# Every index is in range by construction, and a check costs more than the read.
_IN_BOUNDS: dict[str, Any] = {'mode': 'promise_in_bounds'}


class Children(NamedTuple):
  """The codes that may follow each beam's prefix.

  Attributes:
    codes: Ascending codes `[b, m, w]`; None means all codes of the level.
    valid: Whether each code leads to an item.
  """

  codes: Integer[Array, 'b m w'] | None
  valid: Bool[Array, 'b m w']

  def mask(self, logits: Float[Array, 'b m w']) -> Float[Array, 'b m w']:
    """Replaces the logits of invalid entries by -inf.

    A prefix without children keeps its logits, so that a softmax is finite.
    """
    usable = self.valid | ~self.valid.any(2, keepdims=True)
    return jnp.where(usable, logits, -jnp.inf)


class Prefixes(NamedTuple):
  """The prefixes of beams, in one of two forms.

  At bitmap levels a prefix is a number, and at later levels a range of slots.
  The fields of the unused form are None.

  Attributes:
    number: The codes of the prefix as one mixed-radix number.
    first: The first slot with the prefix.
    end: The slot after the last one with the prefix.
  """

  number: Integer[Array, '*b'] | None
  first: Integer[Array, '*b'] | None
  end: Integer[Array, '*b'] | None

  @property
  def slots(self) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    """The slot ranges `(first, end)`, for prefixes after the bitmap levels."""
    assert self.first is not None and self.end is not None
    return self.first, self.end


@functools.partial(
  jax.tree_util.register_dataclass,
  meta_fields=['layout'],
  data_fields=['arrays'],
)
@dataclasses.dataclass(frozen=True)
class Trie:
  """The sorted valid IDs, which a search descends code by code.

  The position of an ID is its slot, and the IDs with the same prefix occupy a
  range of slots. Bisection of this range finds the range of a longer prefix. At
  the leading levels, a bitmap marks the codes that may follow a prefix. At
  later levels, the codes are read from the range itself. The module `layout`
  describes the arrays.
  """

  layout: Layout
  arrays: Arrays

  @property
  def level_sizes(self) -> tuple[int, ...]:
    """Number of codes at each level."""
    return self.layout.level_sizes

  def root(self, batch_size: int) -> Prefixes:
    """Returns the empty prefix of one beam for every request."""
    zero = jnp.zeros((batch_size, 1), jnp.int32)
    if self.layout.num_bitmaps:
      return Prefixes(zero, None, None)
    return Prefixes(None, zero, zero + self.arrays.offsets[-1])

  def children(self, level: int, prefixes: Prefixes) -> Children:
    """Returns the codes that may follow each prefix of `level` codes."""
    if prefixes.number is not None:
      size = self.level_sizes[level]
      words = self.arrays.bitmaps[level].at[prefixes.number].get(**_IN_BOUNDS)
      bits = words[..., None] >> np.arange(32, dtype=np.uint32)[(None,) * 3]
      bits = bits.reshape(*words.shape[:-1], -1)[..., :size] & np.uint32(1)
      return Children(None, bits.astype(bool))
    start, count = self._child_list(level, prefixes)
    width = self.layout.width(level)
    place = jnp.arange(width, dtype=jnp.int32)[None, None]
    codes = self._column(level).at[start[..., None] + place].get(**_IN_BOUNDS)
    valid = place < count[..., None]
    if level < self.layout.num_levels - 1:
      repeats = codes[..., 1:] == codes[..., :-1]
      valid &= jnp.pad(~repeats, ((0, 0), (0, 0), (1, 0)), constant_values=True)
    return Children(codes, valid)

  def place(
    self, level: int, prefixes: Prefixes, code: Integer[Array, '*b']
  ) -> Integer[Array, '*b']:
    """Returns the position of a valid code in the result of `children`."""
    if prefixes.number is not None:
      return code
    start, count = self._child_list(level, prefixes)
    max_length = max(self.layout.span(level), self.layout.width(level))
    column = self._column(level)
    end = start + count
    return _lower_bound(column, start, end, code, max_length) - start

  def descend(
    self, level: int, prefixes: Prefixes, code: Integer[Array, 'b n']
  ) -> Prefixes:
    """Appends a code to each prefix. A prefix without items has no slots."""
    if prefixes.number is None:
      return self._narrow(level, prefixes, code)
    number = prefixes.number * self.level_sizes[level] + code
    if level + 1 < self.layout.num_bitmaps:
      return Prefixes(number, None, None)
    return self._range(level + 1, number)

  def item(
    self, prefixes: Prefixes, place: Integer[Array, 'b n']
  ) -> Integer[Array, 'b n']:
    """Returns the item rows at positions in the last level's `children`."""
    slot = jnp.minimum(prefixes.slots[0] + place, len(self.arrays.rows) - 1)
    return self.arrays.rows.at[slot].get(**_IN_BOUNDS)

  def ranges(
    self, codes: Integer[Array, '*b l']
  ) -> list[tuple[Integer[Array, '*b'], Integer[Array, '*b']]]:
    """Returns the slot ranges of the prefixes of 1, 2, ... codes."""
    slot_ranges = []
    number = jnp.zeros(codes.shape[:-1], jnp.int32)
    prefixes = Prefixes(None, number, number + self.arrays.offsets[-1])
    for level, size in enumerate(self.level_sizes):
      code = codes[..., level]
      if level < self.layout.offsets_depth:
        number = number * size + code
        prefixes = self._range(level + 1, number)
      else:
        prefixes = self._narrow(level, prefixes, code)
      slot_ranges.append(prefixes.slots)
    return slot_ranges

  def lookup(self, codes: Integer[Array, '*b l']) -> Integer[Array, '*b']:
    """Returns the item row of each Semantic ID, or -1 if no item has it."""
    sizes = jnp.asarray(self.level_sizes).reshape(
      (1,) * (codes.ndim - 1) + (-1,)
    )
    in_range = ((codes >= 0) & (codes < sizes)).all(-1)
    first, end = self.ranges(jnp.clip(codes, 0, sizes - 1))[-1]
    row = self.arrays.rows.at[first].get(mode='clip')
    return jnp.where(in_range & (first < end), row, -1)

  def _column(self, level: int) -> Integer[Array, ' _']:
    return self.arrays.columns[level - self.layout.offsets_depth]

  def _child_list(
    self, level: int, prefixes: Prefixes
  ) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    """Returns where the children start in the column, and their number."""
    first, end = prefixes.slots
    if self.layout.scan(level) >= self.layout.span(level):
      return first, end - first
    nodes = self.arrays.large[level - self.layout.num_bitmaps]
    zero, num_nodes = jnp.zeros_like(first), len(nodes.first)
    node = _lower_bound(nodes.first, zero, zero + num_nodes, first, num_nodes)
    start = nodes.start.at[node].get(mode='clip')
    stop = nodes.start.at[node + 1].get(mode='clip')
    is_large = end - first > self.layout.scan(level)
    return (
      jnp.where(is_large, start, first),
      jnp.where(is_large, stop - start, end - first),
    )

  def _range(self, depth: int, number: Integer[Array, '*b']) -> Prefixes:
    """Returns the range of a prefix of `depth` codes, given as a number."""
    sizes = self.level_sizes
    offsets_depth = self.layout.offsets_depth
    if depth < offsets_depth:
      stride = math.prod(sizes[depth:offsets_depth])
      first, end = number * stride, (number + 1) * stride
      return Prefixes(None, self._offset(first), self._offset(end))
    stride = math.prod(sizes[offsets_depth:depth])
    short = number // stride
    prefixes = Prefixes(None, self._offset(short), self._offset(short + 1))
    for level in range(offsets_depth, depth):
      number = number % stride
      stride //= sizes[level]
      prefixes = self._narrow(level, prefixes, number // stride)
    return prefixes

  def _offset(self, number: Integer[Array, '*b']) -> Integer[Array, '*b']:
    return self.arrays.offsets.at[number].get(**_IN_BOUNDS)

  def _narrow(
    self, level: int, prefixes: Prefixes, code: Integer[Array, '*b']
  ) -> Prefixes:
    """Returns the part of each range in which `code` comes next."""
    low, high = (jnp.stack([x, x]) for x in prefixes.slots)
    code = code.astype(jnp.int32)
    values = jnp.stack([code, code + 1])
    first, end = _lower_bound(
      self._column(level), low, high, values, self.layout.span(level)
    )
    return Prefixes(None, first, end)


def take_codes(
  x: Float[Array, 'b m v'], codes: Integer[Array, 'b m w'] | None
) -> Float[Array, 'b m _w']:
  """Returns the entries of `codes`, or all entries if `codes` is None."""
  if codes is None:
    return x
  return jnp.take_along_axis(
    x, codes.astype(jnp.int32), axis=2, mode='promise_in_bounds'
  )


def _lower_bound(
  column: Integer[Array, ' _'],
  low: Integer[Array, '*b'],
  high: Integer[Array, '*b'],
  value: Integer[Array, '*b'],
  max_length: int,
) -> Integer[Array, '*b']:
  """Returns the first position in each range whose entry is >= `value`.

  Entries ascend within every range from `low` to `high`. Every range has at
  most `max_length` entries.
  """

  def halve(
    _: Any, ends: tuple[Integer[Array, '*b'], Integer[Array, '*b']]
  ) -> tuple[Integer[Array, '*b'], Integer[Array, '*b']]:
    low, high = ends
    middle = (low + high) // 2
    entry = column.at[jnp.minimum(middle, len(column) - 1)].get(**_IN_BOUNDS)
    less = (low < high) & (entry.astype(jnp.int32) < value)
    return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

  # If the loop were unrolled, XLA would repeat it for every child of a beam.
  return lax.fori_loop(0, max_length.bit_length(), halve, (low, high))[0]
