"""How a catalogue is laid out in memory, level by level."""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

from jaxtyping import Integer
import numpy as np

from tiger_jax.catalog import sorted_ids

# A level is a bitmap only where that takes no more than this, or than this for
# each item.
_BITMAP_BYTES = 2**22
_BITMAP_ITEM_BYTES = 2
# A table of this size is always worth the bisection it saves.
_OFFSETS_BYTES = 2**20
# Items under a prefix that there is always room for.
_LEAST_ROOM = 8
# Greater than every slot.
NEVER = np.iinfo(np.int32).max


class LargeNodes(NamedTuple):
  """Prefixes whose items are too many to look through one by one.

  Attributes:
    first: The slot of each one's first item, rising, then filled up.
    start: Where in the level's column the distinct codes that follow each
      begin, and where the last ones end.
  """

  first: Any
  start: Any


class Arrays(NamedTuple):
  """What a catalogue consists of; every array has room to spare.

  Attributes:
    bitmaps: For each of the first levels `[prefixes, words]`, uint32: a bit
      for every code that may follow a prefix.
    offsets: The first slot `[prefixes + 1]` of every short prefix.
    columns: For each level from `Layout.offsets_depth` on, the code of every
      slot, in the narrowest type; then the codes of `large`.
    large: For each level between the bitmaps and the last, the prefixes with
      more than `Layout.scan` items.
    rows: The item row of every slot.
    num_rows: The row that the next new item gets.
  """

  bitmaps: tuple[Any, ...]
  offsets: Any
  columns: tuple[Any, ...]
  large: tuple[LargeNodes, ...]
  rows: Any
  num_rows: Any


class Layout(NamedTuple):
  """The sizes that programs are compiled for.

  Attributes:
    level_sizes: Codes at each level.
    capacity: Items that fit.
    num_bitmaps: Levels, from the first on, that are bitmaps.
    offsets_depth: Length of the prefixes whose first slot is tabulated.
    spans: The most items under a prefix that fit, for each length from
      `offsets_depth` on.
    widths: Children of a prefix that are looked at, at each level from
      `num_bitmaps` on.
    num_large: Large prefixes that fit, and codes that follow them, at each
      level from `num_bitmaps` on, but for the last.
  """

  level_sizes: tuple[int, ...]
  capacity: int
  num_bitmaps: int
  offsets_depth: int
  spans: tuple[int, ...]
  widths: tuple[int, ...]
  num_large: tuple[tuple[int, int], ...]

  @property
  def num_levels(self) -> int:
    """Codes of an ID."""
    return len(self.level_sizes)

  @property
  def slots(self) -> int:
    """Length of the columns, but for the codes of large prefixes."""
    return round_up(self.capacity + max(self.widths))

  def span(self, depth: int) -> int:
    """Returns the most items under a prefix of so many codes that fit."""
    return self.spans[depth - self.offsets_depth]

  def width(self, level: int) -> int:
    """Returns how many children of a prefix are looked at."""
    return self.widths[level - self.num_bitmaps]

  def scan(self, level: int) -> int:
    """Returns the most items of a prefix that are looked at one by one.

    A prefix with more has a list of the distinct codes that follow. The last
    code leads to one item each, so there it makes no difference.
    """
    if level == self.num_levels - 1:
      return NEVER
    return scan_limit(self.level_sizes[level])


def scan_limit(level_size: int) -> int:
  """Returns how many items are cheaper to look at than all codes."""
  return max(1, level_size // 4)


def choose_layout(
  columns: Sequence[Integer[np.ndarray, ' items']],
  level_sizes: tuple[int, ...],
  capacity: int,
) -> Layout:
  """Chooses the form of each level that takes less time and space."""
  last = len(level_sizes) - 1
  root, num_items = np.zeros(1, np.int32), len(columns[0])
  starts = [
    sorted_ids.node_starts(root, columns[:level], num_items)
    for level in range(last + 1)
  ]
  largest = [capacity]
  largest += [_roomy(sorted_ids.largest_node(x)) for x in starts[1:]]
  spans = [
    min(number, capacity, math.prod(level_sizes[depth:]))
    for depth, number in enumerate(largest)
  ]
  num_bitmaps, prefixes = 0, 1
  for level in range(last):
    prefixes *= level_sizes[level]
    affordable = prefixes // 8 <= max(
      _BITMAP_BYTES, _BITMAP_ITEM_BYTES * capacity
    )
    if not affordable or spans[level] <= scan_limit(level_sizes[level]):
      break
    num_bitmaps += 1
  offsets_depth, prefixes = 0, 1
  for level in range(num_bitmaps):
    prefixes *= level_sizes[level]
    saved = capacity * columns[level].dtype.itemsize
    if 4 * prefixes <= max(_OFFSETS_BYTES, saved):
      offsets_depth = level + 1
  widths, num_large = [], []
  for level in range(num_bitmaps, last):
    scan = scan_limit(level_sizes[level])
    width, room = min(scan, spans[level]), (0, 0)
    if spans[level] > scan:
      nodes = sorted_ids.large_nodes(starts[level], columns[level], scan)
      widest = int(np.diff(nodes.start).max(initial=0))
      width = max(width, min(level_sizes[level], _roomy(widest)))
      room = _roomy(len(nodes.first)), _roomy(len(nodes.codes))
    widths.append(width)
    num_large.append(room)
  widths.append(min(spans[last], level_sizes[last]))
  return Layout(
    level_sizes, capacity, num_bitmaps, offsets_depth,
    tuple(spans[offsets_depth:]), tuple(widths), tuple(num_large),
  )  # fmt: skip


def round_up(number: int) -> int:
  """Makes a length even enough to be spread over devices."""
  return math.ceil(number / 128) * 128


def _roomy(number: int) -> int:
  """Returns a power of two with some room to spare."""
  return max(_LEAST_ROOM, 1 << (number + number // 4 + 1).bit_length())
