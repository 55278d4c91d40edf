"""The catalog: an index of valid Semantic IDs, with additions and removals."""

from collections.abc import Sequence
import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Integer
import numpy as np

from tiger_jax.catalog import index, sorted_ids
from tiger_jax.catalog.layout import Arrays
from tiger_jax.catalog.trie import Trie
from tiger_jax.errors import DataError
from tiger_jax.storage.arrays import save_arrays, saved_arrays


@functools.partial(
  jax.tree_util.register_dataclass,
  meta_fields=['layout'],
  data_fields=['arrays', 'codes'],
)
@dataclasses.dataclass(frozen=True)
class Catalog(Trie):
  """The items that may be recommended, as a pytree for jitted functions.

  A catalog is immutable: `add` and `remove` return a new one. Its arrays have
  spare capacity, so the new catalog needs no recompilation.

  Attributes:
    codes: The Semantic ID of every item row `[rows, l]`. The row of a removed
      item keeps its ID, because histories may still contain the item.
  """

  codes: Any  # An array, or any other leaf inside of JAX transformations.

  @property
  def size(self) -> int:
    """Number of items."""
    return int(self.arrays.offsets[-1])

  @property
  def capacity(self) -> int:
    """Number of items that fit without a recompilation."""
    return self.layout.capacity

  @property
  def nbytes(self) -> int:
    """Size of the index on the device in bytes, without `codes`."""
    return sum(x.nbytes for x in jax.tree.leaves(self.arrays))

  @classmethod
  def from_codes(
    cls,
    codes: Integer[np.ndarray, 'items l'],
    level_sizes: Sequence[int],
    rows: Integer[np.ndarray, ' items'] | None = None,
    capacity: int | None = None,
  ) -> 'Catalog':
    """Builds the index of items with distinct Semantic IDs.

    Args:
      codes: The Semantic IDs.
      level_sizes: Number of codes at each level.
      rows: The item rows; None numbers the items 0, 1, ...
      capacity: Maximum number of items. None leaves space for 1/16 more items,
        or for 1,024 more if that is larger.

    Raises:
      DataError: There are no items, two items share an ID, a code is out of
        range, or the capacity is too small.
    """
    codes = np.asarray(codes)
    rows = np.arange(len(codes)) if rows is None else as_rows(rows)
    if capacity is None:
      capacity = len(codes) + max(1024, len(codes) // 16)
    layout, arrays = index.build(codes, level_sizes, rows, capacity)
    spare = capacity - len(codes)
    table = np.zeros((int(arrays.num_rows) + spare, codes.shape[1]), np.int32)
    table[rows] = codes
    return cls(layout, *jax.device_put((arrays, table)))

  @classmethod
  def from_table(
    cls,
    table: Integer[np.ndarray, 'rows l'],
    level_sizes: Sequence[int],
    rows: Integer[np.ndarray, ' items'],
    capacity: int | None = None,
  ) -> 'Catalog':
    """Builds the index of some rows of a table.

    The other rows are those of removed items, which keep their IDs.

    Args:
      table: The Semantic ID of every row.
      level_sizes: Number of codes at each level.
      rows: The rows of the items that may be recommended.
      capacity: Maximum number of items, see `from_codes`.

    Raises:
      DataError: See `from_codes`.
    """
    catalog = cls.from_codes(table[rows], level_sizes, rows, capacity)
    catalog = catalog._with_num_rows(len(table))
    codes = np.array(catalog.codes)
    codes[: len(table)] = table
    return dataclasses.replace(catalog, codes=jnp.asarray(codes))

  def add(self, codes: Integer[np.ndarray, 'n l']) -> 'Catalog':
    """Returns a catalog with additional items, in the next free rows.

    Raises:
      DataError: An ID exists already, is repeated or out of range, or the items
        exceed the capacity.
    """
    codes = np.asarray(codes)
    arrays = index.insert(self.layout, self._on_host(), codes)
    stop = int(arrays.num_rows)
    if stop > len(self.codes):
      raise DataError(
        f'the catalog has no room for {stop} rows, only for '
        f'{len(self.codes)}: `grown` returns a larger one'
      )
    table = np.array(self.codes)
    table[stop - len(codes) : stop] = codes
    return self._changed(arrays, table)

  def remove(self, rows: Integer[np.ndarray, ' n']) -> 'Catalog':
    """Returns a catalog without the given items; their rows are never reused.

    Raises:
      DataError: A row does not exist or is repeated, or no item would be left.
    """
    arrays = index.delete(self.layout, self._on_host(), as_rows(rows))
    return self._changed(arrays)

  def grown(
    self, codes: Integer[np.ndarray, 'n l'], capacity: int | None = None
  ) -> 'Catalog':
    """Returns a larger catalog with additional items.

    `codes` may be empty. Jitted functions recompile for the new catalog. See
    `from_codes` for the capacity and the errors.
    """
    _, rows = self.items()
    codes = np.asarray(codes)
    start = int(self.arrays.num_rows)
    table = np.asarray(self.codes)[:start]
    if not codes.size:
      codes = table[:0]
    # Check before the conversion, which would turn 1.5 into 1.
    sorted_ids.check_codes(codes, self.level_sizes)
    new_rows = np.arange(start, start + len(codes))
    grown = Catalog.from_table(
      np.concatenate([table, codes.astype(table.dtype)]),
      self.level_sizes,
      np.concatenate([rows, new_rows]),
      capacity,
    )
    if self.codes.committed:
      return jax.device_put(grown, self.codes.sharding)
    return grown

  def contains(
    self, codes: Integer[np.ndarray, 'n l']
  ) -> Bool[np.ndarray, ' n']:
    """Returns whether each Semantic ID belongs to an item.

    Raises:
      DataError: The IDs do not have one code per level, or the codes are not
        integers.
    """
    codes = np.asarray(codes)
    if codes.shape != (len(codes), len(self.level_sizes)):
      raise DataError(
        f'semantic IDs have shape {codes.shape}: give '
        f'{len(self.level_sizes)} codes for each item'
      )
    if codes.dtype.kind not in 'iu':
      raise DataError(f'semantic IDs are of type {codes.dtype}: give integers')
    sizes = np.asarray(self.level_sizes)[None]
    in_range = ((codes >= 0) & (codes < sizes)).all(-1)
    codes = np.clip(codes, 0, sizes - 1)
    first, end = index.ranges(self.layout, self._on_host(), codes)[-1]
    return in_range & (first < end)

  def items(
    self,
  ) -> tuple[Integer[np.ndarray, 'items l'], Integer[np.ndarray, ' items']]:
    """Returns the Semantic IDs in sorted order, and the rows of their items."""
    arrays = self._on_host()
    slots = np.arange(self.size)
    return index.codes_at(self.layout, arrays, slots), arrays.rows[slots]

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the items to a folder atomically."""
    codes, rows = self.items()
    metadata = {
      'level_sizes': self.level_sizes,
      'capacity': self.capacity,
      'num_rows': int(self.arrays.num_rows),
    }
    arrays = {'codes': codes, 'rows': rows}
    save_arrays(folder, 'catalog', arrays, metadata)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'Catalog':
    """Reads a catalog that `save` wrote.

    The capacity in the file is bounded, so that loading a damaged file cannot
    allocate much more memory than its items need.

    Raises:
      DataError: A file is missing or damaged.
    """
    with saved_arrays(folder, 'catalog', 'catalog', 'save it again') as (
      arrays,
      metadata,
    ):
      codes, rows = arrays['codes'], arrays['rows']
      capacity = min(metadata['capacity'], 2**20 + 64 * len(codes))
      catalog = cls.from_codes(codes, metadata['level_sizes'], rows, capacity)
      num_rows = metadata['num_rows']
      if not rows.max() < num_rows < 2**31:
        raise ValueError(f'num_rows is {num_rows}')
      return catalog._with_num_rows(num_rows)

  def spread(self, mesh: Mesh, axis: str) -> 'Catalog':
    """Shards the catalog by prefix over one axis of a mesh.

    Arrays of fewer than 128 rows are replicated. Later changes are made on the
    host, so all devices must belong to this process.
    """

    def shard(x: Any) -> Array:
      if not x.ndim or len(x) < 128:
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
      padded = _lengthened(x, -len(x) % mesh.shape[axis])
      return jax.device_put(padded, NamedSharding(mesh, PartitionSpec(axis)))

    parts = jax.tree.map(shard, (self._on_host(), jax.device_get(self.codes)))
    return Catalog(self.layout, *parts)

  def _with_num_rows(self, num_rows: int) -> 'Catalog':
    """Sets the row of the next new item, and lengthens `codes` accordingly."""
    arrays = self.arrays._replace(num_rows=jnp.asarray(num_rows, jnp.int32))
    num_missing = num_rows + self.capacity - self.size - len(self.codes)
    codes = jnp.pad(self.codes, ((0, max(0, num_missing)), (0, 0)))
    return Catalog(self.layout, arrays, codes)

  def _on_host(self) -> Arrays:
    return jax.device_get(self.arrays)

  def _changed(
    self, arrays: Arrays, codes: np.ndarray | None = None
  ) -> 'Catalog':
    """Returns a catalog with changed arrays, sharded like the old ones."""

    def shard(x: Any, old: Array) -> Array:
      # The arrays of prefixes with many items are rebuilt without the padding
      # that `spread` adds.
      if old.ndim:
        x = _lengthened(x, len(old) - len(x))
      return jax.device_put(x, old.sharding if old.committed else None)

    table = self.codes if codes is None else shard(codes, self.codes)
    return Catalog(self.layout, jax.tree.map(shard, arrays, self.arrays), table)


def as_rows(rows: Any) -> Integer[np.ndarray, ' n']:
  """Converts row numbers to an integer array.

  Raises:
    DataError: The rows are a mask, are not integers, or have more than one
      dimension.
  """
  rows = np.asarray(rows)
  if not rows.size:
    return np.zeros(0, np.int64)
  if rows.ndim > 1 or rows.dtype.kind not in 'iu':
    raise DataError(
      f'rows have shape {list(rows.shape)} and type {rows.dtype}: give one '
      'list of integers; np.flatnonzero converts a mask'
    )
  return rows.astype(np.int64).reshape(-1)


def _lengthened(x: np.ndarray, num_rows: int) -> np.ndarray:
  """Appends `num_rows` copies of the last row, which no item uses."""
  if not num_rows:
    return x
  return np.pad(x, ((0, num_rows),) + ((0, 0),) * (x.ndim - 1), mode='edge')
