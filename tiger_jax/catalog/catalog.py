"""The catalogue: the valid Semantic IDs, made, changed and kept."""

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
  """The items that may be recommended, as an argument of jitted programs.

  A catalogue does not change: `add` and `remove` return another. Its arrays
  have spare capacity, so that those fit the programs compiled for this one.

  Attributes:
    codes: The Semantic ID of every row. Rows of removed items keep theirs,
      because histories may still name them.
  """

  codes: Any  # `Codes`; JAX also builds this class with other leaves.

  @property
  def size(self) -> int:
    """Items."""
    return int(self.arrays.offsets[-1])

  @property
  def capacity(self) -> int:
    """Items that fit without a recompilation."""
    return self.layout.capacity

  @property
  def nbytes(self) -> int:
    """Bytes of the index on the device, without `codes`."""
    return sum(x.nbytes for x in jax.tree.leaves(self.arrays))

  @classmethod
  def from_codes(
    cls,
    codes: Integer[np.ndarray, 'items l'],
    level_sizes: Sequence[int],
    rows: Integer[np.ndarray, ' items'] | None = None,
    capacity: int | None = None,
  ) -> 'Catalog':
    """Builds the index of items whose Semantic IDs all differ.

    The items have the rows 0, 1, ... if `rows` is None. A `capacity` of None
    leaves space for a sixteenth more items, and for 1,024 items at least.

    Raises:
      DataError: There is no item, two items share an ID, a code is out of
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

  def add(self, codes: Integer[np.ndarray, 'n l']) -> 'Catalog':
    """Returns a catalogue with further items, in the rows that come next.

    Raises:
      DataError: An ID is there already, repeated or out of range, or there is
        no room; this catalogue stays as it is.
    """
    codes = np.asarray(codes)
    arrays = index.insert(self.layout, self._on_host(), codes)
    stop = int(arrays.num_rows)
    if stop > len(self.codes):
      raise DataError(
        f'the catalogue has no room for row {stop - 1}, only for '
        f'{len(self.codes)} rows: `grown` makes one that has'
      )
    table = np.array(self.codes)
    table[stop - len(codes) : stop] = codes
    return self._changed(arrays, table)

  def remove(self, rows: Integer[np.ndarray, ' n']) -> 'Catalog':
    """Returns a catalogue without some items, whose rows stay unused.

    Raises:
      DataError: A row is not there or named twice, or no item would be left.
    """
    deleted = index.delete(self.layout, self._on_host(), as_rows(rows))
    return self._changed(deleted)

  def grown(
    self, codes: Integer[np.ndarray, 'n l'], capacity: int | None = None
  ) -> 'Catalog':
    """Returns what `add` does, in new arrays that have space for the items.

    Programs are recompiled for the new catalogue. `codes` may be empty. See
    `from_codes` for the capacity and the errors.
    """
    before, rows = self.items()
    codes = np.asarray(codes)
    if not codes.size:
      codes = before[:0]
    # Checked before the type is changed, which would turn 1.5 into 1.
    sorted_ids.check_codes(codes, self.level_sizes)
    start = int(self.arrays.num_rows)
    new_rows = np.arange(start, start + len(codes))
    grown = Catalog.from_codes(
      np.concatenate([before, codes.astype(before.dtype)]),
      self.level_sizes,
      np.concatenate([rows, new_rows]),
      capacity,
    )._counting(start + len(codes))
    # Rows of removed items keep their IDs.
    table = np.array(grown.codes)
    table[:start] = np.asarray(self.codes)[:start]
    grown = dataclasses.replace(grown, codes=jnp.asarray(table))
    if self.codes.committed:
      return jax.device_put(grown, self.codes.sharding)
    return grown

  def contains(
    self, codes: Integer[np.ndarray, 'n l']
  ) -> Bool[np.ndarray, ' n']:
    """Returns which Semantic IDs are items.

    Raises:
      DataError: They have more or fewer codes than the items.
    """
    codes = np.asarray(codes)
    if codes.shape != (len(codes), len(self.level_sizes)):
      raise DataError(
        f'semantic IDs of shape {codes.shape} were asked for where items have '
        f'{len(self.level_sizes)} codes each'
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
    """Returns all Semantic IDs, sorted, and the rows of their items."""
    arrays = self._on_host()
    slots = np.arange(self.size)
    return index.codes_at(self.layout, arrays, slots), arrays.rows[slots]

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the items to a folder; a reader never sees half of them."""
    codes, rows = self.items()
    about = {
      'level_sizes': self.level_sizes,
      'capacity': self.capacity,
      'num_rows': int(self.arrays.num_rows),
    }
    arrays = {'codes': codes, 'rows': rows}
    save_arrays(folder, 'catalog', arrays, about)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> 'Catalog':
    """Reads what `save` wrote.

    A very large spare capacity is lowered, so that a file cannot make this
    allocate much more memory than its items need.

    Raises:
      DataError: A file is missing or damaged.
    """
    with saved_arrays(folder, 'catalog', 'catalogue', 'save it again') as (
      arrays,
      about,
    ):
      codes, rows = arrays['codes'], arrays['rows']
      capacity = min(about['capacity'], 2**20 + 64 * len(codes))
      catalog = cls.from_codes(codes, about['level_sizes'], rows, capacity)
      num_rows = about['num_rows']
      if not rows.max() < num_rows < 2**31:
        raise ValueError(f'num_rows is {num_rows}')
      return catalog._counting(num_rows)

  def spread(self, mesh: Mesh, axis: str) -> 'Catalog':
    """Returns the same catalogue, each device holding a range of prefixes.

    Arrays of fewer than 128 rows are whole on every device. Changes take place
    on the host, so all devices must be this process's.
    """

    def place(x: Any) -> Array:
      if not x.ndim or len(x) < 128:
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
      padded = _lengthened(x, -len(x) % mesh.shape[axis])
      return jax.device_put(padded, NamedSharding(mesh, PartitionSpec(axis)))

    parts = jax.tree.map(place, (self._on_host(), jax.device_get(self.codes)))
    return Catalog(self.layout, *parts)

  def _counting(self, num_rows: int) -> 'Catalog':
    """Returns the same catalogue, whose next item gets another row."""
    arrays = self.arrays._replace(num_rows=jnp.asarray(num_rows, jnp.int32))
    missing = num_rows + self.capacity - self.size - len(self.codes)
    codes = jnp.pad(self.codes, ((0, max(0, missing)), (0, 0)))
    return Catalog(self.layout, arrays, codes)

  def _on_host(self) -> Arrays:
    return jax.device_get(self.arrays)

  def _changed(
    self, arrays: Arrays, codes: np.ndarray | None = None
  ) -> 'Catalog':
    """Puts changed arrays where the old ones are; uncommitted ones may move."""

    def place(x: Any, old: Array) -> Array:
      # Rebuilt lists of large prefixes lack the padding that `spread` adds.
      if old.ndim:
        x = _lengthened(x, len(old) - len(x))
      return jax.device_put(x, old.sharding if old.committed else None)

    table = self.codes if codes is None else place(codes, self.codes)
    return Catalog(self.layout, jax.tree.map(place, arrays, self.arrays), table)


def as_rows(rows: Any) -> Integer[np.ndarray, ' n']:
  """Returns row numbers as an array of integers.

  Raises:
    DataError: They are a mask, fractions, or not in one dimension.
  """
  rows = np.asarray(rows)
  if not rows.size:
    return np.zeros(0, np.int64)
  if rows.ndim > 1 or rows.dtype.kind not in 'iu':
    raise DataError(
      f'rows are an array of shape {list(rows.shape)} and type {rows.dtype}: '
      'give one list of integers; np.flatnonzero makes them of a mask'
    )
  return rows.astype(np.int64).reshape(-1)


def _lengthened(x: np.ndarray, by: int) -> np.ndarray:
  """Pads an array with copies of its last row, which no item uses."""
  if not by:
    return x
  return np.pad(x, ((0, by),) + ((0, 0),) * (x.ndim - 1), mode='edge')
