"""The memory layout of a catalog.

The Semantic IDs are sorted, and the slot of an item is the position of its ID.
Items with the same prefix thus occupy a range of slots. The leading levels have
bitmaps, which mark the codes that may follow each prefix. Each later level has
a column with the code in every slot. Bisection of this column finds the range
of a prefix.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any, NamedTuple

from jaxtyping import Integer
import numpy as np

from tiger_jax.catalog import sorted_ids

# A bitmap takes at most `_BITMAP_BYTES`, or `_BITMAP_ITEM_BYTES` per item if
# that is more.
_BITMAP_BYTES = 2**22
_BITMAP_ITEM_BYTES = 2
# A table of offsets up to this size always costs less than bisection.
_OFFSETS_BYTES = 2**20
# The smallest capacity that `_with_slack` returns.
_MIN_CAPACITY = 8
# Greater than every slot.
NEVER = np.iinfo(np.int32).max


class LargeNodes(NamedTuple):
  """The prefixes of one level that have too many items to scan.

  The distinct codes that follow these prefixes are listed at the end of the
  level's column.

  Attributes:
    first: The first slot of each prefix, ascending, padded with `NEVER`.
    start: The start of each prefix's list in the column; entry i + 1 is the end
      of list i.
  """

  first: Any
  start: Any


class Arrays(NamedTuple):
  """The arrays of a catalog, which all have spare capacity.

  Attributes:
    bitmaps: For each leading level, one bit for every code that may follow a
      prefix, as uint32 words `[prefixes, words]`.
    offsets: The first slot of every prefix of `Layout.offsets_depth` codes
      `[prefixes + 1]`.
    columns: For each level from `Layout.offsets_depth`, the code in every slot,
      in the narrowest type, followed by the lists of `large`.
    large: For each level after the bitmaps except the last, the prefixes with
      more than `Layout.scan` items.
    rows: The item row of every slot.
    num_rows: The row of the next new item.
  """

  bitmaps: tuple[Any, ...]
  offsets: Any
  columns: tuple[Any, ...]
  large: tuple[LargeNodes, ...]
  rows: Any
  num_rows: Any


class Layout(NamedTuple):
  """The static sizes that jitted functions are compiled for.

  Attributes:
    level_sizes: Number of codes at each level.
    capacity: Maximum number of items.
    num_bitmaps: Number of leading levels that have bitmaps.
    offsets_depth: Length of the prefixes in `Arrays.offsets`.
    spans: Maximum number of items with the same prefix, for each prefix length
      from `offsets_depth`.
    widths: Number of children read per prefix, for each level from
      `num_bitmaps`.
    num_large: Maximum number of large prefixes and of the codes that follow
      them, for each level from `num_bitmaps` except the last.
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
    """Number of codes per ID."""
    return len(self.level_sizes)

  @property
  def slots(self) -> int:
    """Length of the columns without the lists of large prefixes."""
    return round_up(self.capacity + max(self.widths))

  def span(self, depth: int) -> int:
    """Returns the maximum number of items with the same first `depth` codes."""
    return self.spans[depth - self.offsets_depth]

  def width(self, level: int) -> int:
    """Returns the number of children read per prefix."""
    return self.widths[level - self.num_bitmaps]

  def scan(self, level: int) -> int:
    """Returns the maximum number of items that are scanned for the next codes.

    A prefix with more items has a list of the distinct codes instead. At the
    last level each code leads to one item, so a list would be no shorter.
    """
    if level == self.num_levels - 1:
      return NEVER
    return scan_limit(self.level_sizes[level])


def scan_limit(level_size: int) -> int:
  """Returns the number of items up to which a scan costs less than a bitmap."""
  return max(1, level_size // 4)


def choose_layout(
  columns: Sequence[Integer[np.ndarray, ' items']],
  level_sizes: tuple[int, ...],
  capacity: int,
) -> Layout:
  """Chooses a representation of each level that saves time and space.

  Without spare capacity, there is no room for other items.
  """
  last = len(level_sizes) - 1
  root, num_items = np.zeros(1, np.int32), len(columns[0])
  extend = int
  if capacity > num_items:
    # The items of a prefix can grow at the rate of the catalog, or by 25%.
    extend = functools.partial(
      _with_slack, factor=max(1.25, capacity / num_items)
    )
  starts = [
    sorted_ids.node_starts(root, columns[:level], num_items)
    for level in range(last + 1)
  ]
  largest = [capacity]
  largest += [extend(sorted_ids.largest_node(x)) for x in starts[1:]]
  spans = [
    min(size, capacity, math.prod(level_sizes[depth:]))
    for depth, size in enumerate(largest)
  ]
  widths, num_large = [], []
  for level, size in enumerate(level_sizes[:last]):
    span, scan = spans[level], scan_limit(size)
    width, large = min(scan, span), (0, 0)
    if span > scan:
      nodes = sorted_ids.large_nodes(starts[level], columns[level], scan)
      widest = int(np.diff(nodes.start).max(initial=0))
      width = max(width, min(size, extend(widest)))
      large = extend(len(nodes.first)), extend(len(nodes.codes))
    widths.append(width)
    num_large.append(large)
  widths.append(min(spans[last], level_sizes[last]))
  num_bitmaps, prefixes = 0, 1
  for level, size in enumerate(level_sizes[:last]):
    prefixes *= size
    affordable = prefixes // 8 <= max(
      _BITMAP_BYTES, _BITMAP_ITEM_BYTES * capacity
    )
    # Lists of at most half of the codes are read faster than a bitmap. The
    # bitmap of the root is kept, because it has room for all first codes.
    is_short = level > 0 and 2 * widths[level] <= size
    if not affordable or is_short or spans[level] <= scan_limit(size):
      break
    num_bitmaps += 1
  offsets_depth, prefixes = 0, 1
  for level in range(num_bitmaps):
    prefixes *= level_sizes[level]
    column_bytes = capacity * columns[level].dtype.itemsize
    if 4 * prefixes <= max(_OFFSETS_BYTES, column_bytes):
      offsets_depth = level + 1
  return Layout(
    level_sizes, capacity, num_bitmaps, offsets_depth,
    tuple(spans[offsets_depth:]), tuple(widths[num_bitmaps:]),
    tuple(num_large[num_bitmaps:]),
  )  # fmt: skip


def round_up(number: int) -> int:
  """Rounds a length up to a multiple of 128, which shards evenly."""
  return math.ceil(number / 128) * 128


def _with_slack(number: int, factor: float) -> int:
  """Returns a power of two that is at least `factor` times the number."""
  return max(_MIN_CAPACITY, 1 << int(factor * number + 1).bit_length())
