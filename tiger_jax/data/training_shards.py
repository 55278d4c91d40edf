"""Training histories in array_record shards, which may exceed the memory.

The folder `training` of a dataset has these files:

`part-00000.array_record`, ...: the shards, see `packing.Histories`. A record is
  a history and its target, as item rows of 32 bits.
`index.npz`, `index.json`: the number of histories of each length in each shard,
  the number of training events of each item, and the sha256 of the item ids and
  of each shard.

Users are assigned to shards at random, so each shard is a sample of all users.
"""

from collections import OrderedDict
from collections.abc import Sequence
import dataclasses
import hashlib
from pathlib import Path
import threading
from typing import Any

from jaxtyping import Int32, Int64
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import batches, packing, splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.events import filters
from tiger_jax.data.packing import PackedExcerpts
from tiger_jax.errors import DataError, UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.storage import files
from tiger_jax.storage.arrays import save_arrays, saved_arrays

FOLDER = 'training'
_INDEX = 'index'
# Prefetching threads may read from different shards.
_MAX_OPEN = 4
# The number of records that are read at once into memory.
_NUM_RECORDS = 2**16
_REMEDY = 'copy the whole folder again, or make the shards again'
_DAMAGED = f'does not have the records that {_INDEX}.npz lists: {_REMEDY}'


def write_shard(
  path: Path,
  history: Int32[np.ndarray, ' n'],
  examples: splits.Examples,
  width: int,
) -> tuple[Int64[np.ndarray, ' lengths'], str]:
  """Writes a shard.

  Args:
    path: The file to write.
    history: Item rows.
    examples: Histories and targets as positions in `history`.
    width: The largest number of items in a history.

  Returns:
    The number of histories of each length, and the sha256 of the file.
  """
  from array_record.python import array_record_module

  counts, events = packing.grouped(history, examples, width)
  content = events.astype('<i4').tobytes()
  # Records of a group of one can be read in any order.
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  first = 0
  for length, count in enumerate(counts.tolist()):
    size = 4 * (length + 1)
    for start in range(first, first + count * size, size):
      writer.write(content[start : start + size])
    first += count * size
  writer.close()
  with path.open('rb') as file:
    return counts, hashlib.file_digest(file, 'sha256').hexdigest()


def write_index(
  folder: Path,
  counts: Int64[np.ndarray, 'shards lengths'],
  item_counts: Int64[np.ndarray, ' items'],
  item_ids: Sequence[str],
  digests: Sequence[str],
) -> None:
  """Writes the files that describe the shards of a folder.

  Args:
    folder: The folder of the shards.
    counts: The number of histories of each length in each shard.
    item_counts: The number of training events of each item.
    item_ids: The ids of all items.
    digests: The sha256 of each shard.
  """
  arrays = {'counts': counts, 'items': item_counts}
  about = {'item_ids': _digest(item_ids), 'shards': list(digests)}
  save_arrays(folder, _INDEX, arrays, about)


def name(number: int) -> str:
  """Returns the name of the file of a shard."""
  return f'part-{number:05}.array_record'


def index(source_dir: Path) -> Path:
  """Returns the index of the shards of a dataset, existing or not."""
  return source_dir / FOLDER / f'{_INDEX}.npz'


def attach(dataset: Dataset, config: DatasetConfig, folder: Path) -> Dataset:
  """Returns the dataset of a folder with shards, with its training counts.

  Args:
    dataset: The items, and the users for validation and test.
    config: The settings of the dataset.
    folder: The folder of the dataset.

  Raises:
    UsageError: A setting changes the users or the items.
    DataError: The shards have other items, or their index is damaged.
  """
  changed = [*filters.made_from(config)]
  changed += [
    name for name in ('shuffle_ties', 'unseen_share') if getattr(config, name)
  ]
  if changed:
    raise UsageError(
      f'config.dataset.{changed[0]} is set, but it cannot change the histories '
      f'in {folder / FOLDER}: remove it'
    )
  arrays, written_for = _read_index(folder / FOLDER)
  _check_items(folder / FOLDER, written_for, dataset.items.ids)
  return dataclasses.replace(dataset, training_counts=arrays['items'])


class TrainingShards:
  """The training histories in a folder, as a `packing.Histories`.

  If all histories together have at most `resident_bytes`, they are read into
  memory, and the device gathers the batches. Otherwise each batch is read from
  disk. The batches are equal.
  """

  def __init__(
    self,
    folder: Path,
    dataset_name: str,
    item_ids: Sequence[str],
    width: int,
    *,
    resident_bytes: int | None = None,
  ):
    """Opens the shards.

    Args:
      folder: The folder of the shards.
      dataset_name: The dataset, for error messages.
      item_ids: The item ids of the dataset.
      width: The number of items in a row of a batch.
      resident_bytes: The largest size of histories that are kept in memory; by
        default `batches.RESIDENT_BYTES`.

    Raises:
      UsageError: The shards have histories of another width.
      DataError: The shards have other items, or a file is missing or damaged.
    """
    arrays, written_for = _read_index(folder)
    self.counts = arrays['counts']
    written_width = self.counts.shape[1] - 1
    if written_width != width:
      raise UsageError(
        f'config.model.max_history is {width}, but the histories in {folder} '
        f'have up to {written_width} items: set it to {written_width}, or make '
        'the shards again'
      )
    _check_items(folder, written_for, item_ids)
    self.name = dataset_name
    self._num_items = len(item_ids)
    self._paths = [folder / name(i) for i in range(len(self.counts))]
    for path in self._paths:
      if not path.is_file():
        raise DataError(f'{path} is missing: {_REMEDY}')
    self._first_position = packing.first_positions(self.counts)
    # The number of the first record of each length in its shard.
    self._first_record = np.cumsum(self.counts, axis=1) - self.counts
    self._open: OrderedDict[int, Any] = OrderedDict()
    self._lock = threading.Lock()
    num_items = int((self.counts * np.arange(1, width + 2)).sum())
    is_small = batches.is_resident(4 * num_items, resident_bytes)
    self.events = self._read_all(num_items) if is_small else None

  def gather(self, excerpts: PackedExcerpts) -> Batch:
    """Returns the item rows of batches.

    Raises:
      DataError: A shard is missing or damaged.
    """
    position = np.asarray(excerpts.position)
    history, target = np.full((2, position.size), -1, np.int32)
    last = np.flatnonzero(excerpts.is_last)
    end = position.ravel()[last]
    starts = self._first_position.ravel()
    # A length without histories has the same position as the next length.
    place = np.searchsorted(starts, end, side='right') - 1
    shard, length = np.divmod(place, self.counts.shape[1])
    number = (end - starts[place]) // (length + 1)
    record = self._first_record.ravel()[place] + number
    for i in np.unique(shard).tolist():
      chosen = np.flatnonzero(shard == i)
      sizes = length[chosen] + 1
      rows = self._read(i, record[chosen], sizes)
      # The place of each item in its record, counted from the end.
      before_target = (
        np.repeat(np.cumsum(sizes), sizes) - np.arange(len(rows)) - 1
      )
      places = np.repeat(last[chosen], sizes) - before_target + 1
      is_target = before_target == 0
      target[last[chosen]] = rows[is_target]
      history[places[~is_target]] = rows[~is_target]
    return Batch(
      history=history.reshape(position.shape),
      user=np.full(position.shape[:-1], -1, np.int32),
      target=target.reshape(position.shape),
    )

  def _read(
    self,
    shard: int,
    records: Int64[np.ndarray, ' n'],
    sizes: Int64[np.ndarray, ' n'],
  ) -> Int32[np.ndarray, ' items']:
    """Returns the item rows of records of given sizes, one after the other."""
    with files.explained(f'{self._paths[shard]} is damaged', _REMEDY):
      contents = self._source(shard).__getitems__(records.tolist())
    lengths = np.fromiter(map(len, contents), np.int64, len(contents))
    if not np.array_equal(lengths, 4 * sizes):
      raise DataError(f'{self._paths[shard]} {_DAMAGED}')
    rows = np.frombuffer(b''.join(contents), '<i4').astype(np.int32, copy=False)
    if len(rows) and not 0 <= rows.min() <= rows.max() < self._num_items:
      raise DataError(f'{self._paths[shard]} has unknown items: {_REMEDY}')
    return rows

  def _source(self, shard: int) -> Any:
    """Returns the reader of a shard, and closes readers that are not used."""
    import grain  # Imported here, because serving does not need it.

    with self._lock:
      if shard not in self._open:
        source = grain.sources.ArrayRecordDataSource([str(self._paths[shard])])
        if len(source) != self.counts[shard].sum():
          raise DataError(f'{self._paths[shard]} {_DAMAGED}')
        self._open[shard] = source
      self._open.move_to_end(shard)
      while len(self._open) > _MAX_OPEN:
        self._open.popitem(last=False)
      return self._open[shard]

  def _read_all(self, num_items: int) -> Int32[np.ndarray, ' n']:
    events = np.empty(num_items, np.int32)
    first = 0
    for shard, counts in enumerate(self.counts):
      sizes = np.repeat(np.arange(1, len(counts) + 1), counts)
      for start in range(0, len(sizes), _NUM_RECORDS):
        part = sizes[start : start + _NUM_RECORDS]
        rows = self._read(shard, start + np.arange(len(part)), part)
        events[first : first + len(rows)] = rows
        first += len(rows)
    return events


def _read_index(folder: Path) -> tuple[dict[str, np.ndarray], str]:
  """Returns the arrays of the index, and the digest of the item ids."""
  what = 'index of the training histories'
  with saved_arrays(folder, _INDEX, what, _REMEDY) as (arrays, metadata):
    counts, items = arrays['counts'], arrays['items']
    if (counts.ndim, items.ndim) != (2, 1):
      raise ValueError('wrong shapes')
    if any(x.dtype != np.int64 or (x < 0).any() for x in (counts, items)):
      raise ValueError('wrong counts')
    return arrays, str(metadata['item_ids'])


def _check_items(
  folder: Path, written_for: str, item_ids: Sequence[str]
) -> None:
  """Raises DataError if the shards have other items."""
  if written_for != _digest(item_ids):
    raise DataError(
      f'the items of the dataset are not those of {folder}: make the shards '
      'again'
    )


def _digest(item_ids: Sequence[str]) -> str:
  return hashlib.sha256('\0'.join(item_ids).encode()).hexdigest()
