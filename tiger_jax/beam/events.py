"""The tasks of `prepare` that read, filter and write events.

`read` divides the events of a file among buckets by user, so that a bucket has
all events of its users. `keep` collects the events of a bucket, and applies the
filters. `write` writes the events of consecutive users.
"""

from collections.abc import Sequence
import functools
import os
from pathlib import Path
from typing import Any, NamedTuple
import zlib

from jaxtyping import Int64
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pyarrow.compute as pc

from tiger_jax.beam.jobs import PARTS, Result, unique
from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import MIN_EVENTS
from tiger_jax.data.events import event_log, event_times, filters, ids
from tiger_jax.data.events.log import Log
from tiger_jax.data.files import tables
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.sources import own_files

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
# The number of rows after which events are divided among the buckets.
_CHUNK_ROWS = 2**18
# A position has the number of the row in its lower bits, and the number of the
# file in the other bits.
_ROW_BITS = 40
# About this number of users of each bucket is sampled, to divide all users into
# shards of similar size.
_NUM_CUTS = 64
MILLION = 10**6


class Settings(NamedTuple):
  """The settings that all tasks share.

  Attributes:
    config: The settings of the dataset.
    work: The folder of intermediate files.
    form: The form of the times of the whole table.
    num_buckets: The number of buckets.
  """

  config: DatasetConfig
  work: str
  form: event_times.Form
  num_buckets: int


def read(settings: Settings, numbered: tuple[int, str]) -> Result:
  """Reads a file of interactions, and divides its events among the buckets.

  Args:
    settings: The settings.
    numbered: The number of the file in its table, and its path.

  Returns:
    The counts of the rows. `PARTS` lists the batches of each bucket.
  """
  number, path = numbered[0], Path(numbered[1])
  config = settings.config
  bad = BadRows(config.max_bad_share)
  table = tables.Table(
    [path], own_files.event_columns(config), bad, may_be_empty=True
  )
  writer = _Writer(settings, number)
  builder = event_log.Builder(bad, settings.form)
  num_rows = 0
  for block in table.blocks():
    builder.add(block)
    num_rows += len(block.numbers)
    if num_rows >= _CHUNK_ROWS:
      writer.add(builder)
      first, num_rows = builder.first, 0
      builder = event_log.Builder(bad, settings.form)
      builder.first = first
  writer.add(builder)
  first = builder.first
  return {
    'rows': bad.counts.as_json(),
    'notes': table.notes,
    'first': first and [str(path), int(first.numbers[0]), [*first.columns]],
    'num_early': writer.num_early,
    'has_fraction': writer.has_fraction,
    PARTS: writer.close(),
  }


class _Writer:
  """Writes the events of a file in batches that each belong to one bucket."""

  def __init__(self, settings: Settings, number: int):
    self.num_early = 0
    self.has_fraction = False
    self._settings = settings
    self._number = number
    self._path = Path(settings.work) / f'{unique("read")}.arrow'
    self._file: Any = None
    self._batches: dict[int, list[int]] = {}
    self._num_batches = 0

  def add(self, builder: event_log.Builder) -> None:
    """Writes the events of a builder."""
    if not builder.numbers:
      return
    columns: dict[str, Any] = {}
    if builder.has_times:
      seconds, rest, num_early = builder.times.take()
      self.num_early += num_early
      self.has_fraction |= bool(rest.any())
      columns['time'] = pa.array(seconds * MILLION + rest)
    log, _ = builder.log('')
    if log.ratings is not None:
      columns['rating'] = pa.array(log.ratings)
    position = np.concatenate(builder.numbers).astype(np.int64)
    columns['position'] = pa.array(position + (self._number << _ROW_BITS))
    for name, texts, codes in (
      ('user', log.user_ids, log.users),
      ('item', log.item_ids, log.items),
    ):
      columns[name] = pa.array(texts, pa.string()).take(pa.array(codes))
    num_buckets = self._settings.num_buckets
    of_user = [zlib.crc32(x.encode()) % num_buckets for x in log.user_ids]
    buckets = np.asarray(of_user, np.int32)[log.users]
    order = np.argsort(buckets, kind='stable')
    table = pa.table(columns).take(pa.array(order))
    ends = np.cumsum(np.bincount(buckets, minlength=num_buckets)).tolist()
    for bucket, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
      if start < end:
        self._write(bucket, table.slice(start, end - start))

  def _write(self, bucket: int, rows: pa.Table) -> None:
    if self._file is None:
      self._file = pa.ipc.new_file(str(self._path), rows.schema)
    (batch,) = rows.combine_chunks().to_batches()
    self._file.write_batch(batch)
    self._batches.setdefault(bucket, []).append(self._num_batches)
    self._num_batches += 1

  def close(self) -> list[tuple[int, tuple[str, list[int]]]]:
    """Closes the file; returns its path and the batch numbers by bucket."""
    if self._file is not None:
      self._file.close()
    path = str(self._path)
    return [(bucket, (path, rows)) for bucket, rows in self._batches.items()]


def keep(
  settings: Settings, bucket: tuple[int, Sequence[tuple[str, list[int]]]]
) -> Result:
  """Filters the events of a bucket.

  Args:
    settings: The settings.
    bucket: The number of the bucket, and its files. Each file has a path and
      the numbers of the batches of this bucket.

  Returns:
    The path of the remaining events, the path of the item counts, and other
    counts.
  """
  config = settings.config
  table = _collect(bucket[1])
  positions = table['position'].to_numpy()
  columns = {
    name: table[name].combine_chunks().dictionary_encode()
    for name in ('user', 'item')
  }
  texts = {name: x.dictionary.to_pylist() for name, x in columns.items()}
  codes = {name: x.indices.to_numpy() for name, x in columns.items()}
  log = Log(
    texts['user'], codes['user'], texts['item'], codes['item'],
    table['time'].to_numpy() if 'time' in table.column_names else None,
    table['rating'].to_numpy() if 'rating' in table.column_names else None,
  )  # fmt: skip
  firsts = {x: positions[np.unique(codes[x], return_index=True)[1]]
            for x in codes}  # fmt: skip
  excluded = filters.read_excluded(config)
  steps = filters.user_steps if config.k_core else filters.steps
  drops = filters.Drops()
  kept = drops.apply(steps(config, excluded), log)
  lengths = np.bincount(kept.users, minlength=len(log.user_ids))
  short = np.flatnonzero((lengths > 0) & (lengths < MIN_EVENTS))
  work = Path(settings.work)
  events, items = (f'{work / unique(x)}.arrow' for x in ('kept', 'items'))
  num_events = np.bincount(kept.items, minlength=len(log.item_ids))
  write_arrow(items, {
    'item': columns['item'].dictionary,
    'events': pa.array(num_events.astype(np.int64)),
    'rows': pa.array(np.bincount(log.items, minlength=len(log.item_ids))),
    'first': pa.array(firsts['item']),
  })  # fmt: skip
  write_arrow(events, _sorted(kept, columns, firsts['user']))
  starts = firsts['user'][lengths > 0]
  return {
    'events': events,
    'items': items,
    'num_read': len(log.users),
    'num_used': len(kept.users),
    'num_users': int((lengths > 0).sum()),
    'dropped_events': drops.events,
    'dropped_users': drops.users,
    'short': [
      (int(firsts['user'][x]), log.user_ids[x], int(lengths[x]))
      for x in short[:1].tolist()
    ],
    'num_short': len(short),
    'excluded_users': sorted(
      excluded['exclude_users'].intersection(log.user_ids)
    ),
    'placeholders': ids.placeholder_counts(
      log.user_ids, np.bincount(log.users, minlength=len(log.user_ids))
    ),
    'cuts': starts[:: max(1, len(starts) // _NUM_CUTS)].tolist(),
  }


def _collect(parts: Sequence[tuple[str, list[int]]]) -> pa.Table:
  """Returns the events of a bucket in the order of the source."""
  batches = []
  for path, numbers in parts:
    file = pa.ipc.open_file(pa.memory_map(path))
    batches += [file.get_batch(number) for number in numbers]
  # If files have different columns, the launcher raises an error later.
  names = [x for x in batches[0].schema.names
           if all(x in batch.schema.names for batch in batches)]  # fmt: skip
  table = pa.Table.from_batches([batch.select(names) for batch in batches])
  return table.take(pa.array(np.argsort(table['position'].to_numpy())))


def _sorted(
  log: Log, columns: dict[str, Any], first: Int64[np.ndarray, ' users']
) -> dict[str, pa.Array]:
  """Returns the events sorted by user and time, as columns of a file."""
  order = log.order()
  users = log.users[order]
  table = {
    'user': columns['user'].dictionary.take(pa.array(users)),
    'item': columns['item'].dictionary.take(pa.array(log.items[order])),
    'first': pa.array(first[users]),
  }
  if log.timestamps is not None:
    table['time'] = pa.array(log.timestamps[order])
  if log.ratings is not None:
    table['rating'] = pa.array(log.ratings[order])
  return table


def write_arrow(path: str, columns: dict[str, pa.Array]) -> None:
  """Writes a file of intermediate results."""
  table = pa.table(columns)
  with pa.ipc.new_file(path, table.schema) as file:
    file.write_table(table)


def read_arrow(path: str) -> pa.Table:
  """Opens a file of intermediate results as a memory map."""
  return pa.ipc.open_file(pa.memory_map(path)).read_all()


class Shard(NamedTuple):
  """The users whose first event has a position in a range.

  Attributes:
    path: The file to write.
    files: The files of remaining events.
    start: The first position of the range.
    end: The position after the range.
    time_type: `number` for numbers of seconds, `date` for dates.
    core: The path of the list of items that `k_core` keeps, or ''.
  """

  path: str
  files: tuple[str, ...]
  start: int
  end: int
  time_type: str
  core: str


def write(settings: Settings, shard: Shard) -> Result:
  """Writes the events of the users of a shard as a Parquet file."""
  slices = []
  for path in shard.files:
    table = read_arrow(path)
    bounds = np.searchsorted(
      table['first'].to_numpy(), [shard.start, shard.end]
    )
    slices.append(table.slice(bounds[0], bounds[1] - bounds[0]))
  table = pa.concat_tables(slices)
  first = table['first'].to_numpy()
  table = table.take(pa.array(np.argsort(first, kind='stable')))
  if shard.core:
    known = _compute.is_in(table['item'], value_set=_core_items(shard.core))
    table = table.filter(known)
    _, of_event, counts = np.unique(
      table['first'].to_numpy(), return_inverse=True, return_counts=True
    )
    least = filters.min_user_events(settings.config)
    table = table.filter(pa.array(counts[of_event] >= least))
  if len(table):
    partial = partial_path(shard.path)
    parquet.write_table(_output(table, shard.time_type), partial)
    os.replace(partial, shard.path)
  return {'num_events': len(table)}


@functools.lru_cache(maxsize=1)
def _core_items(path: str) -> pa.Array:
  return read_arrow(path)['item'].combine_chunks()


def _output(table: pa.Table, time_type: str) -> pa.Table:
  """Returns the columns of a table of interactions, see docs/data.md."""
  columns = {name: table[name] for name in ('user', 'item')}
  if 'time' in table.column_names:
    micros = table['time']
    if time_type == 'date':
      columns['timestamp'] = micros.cast(pa.timestamp('us'))
    else:
      columns['timestamp'] = pa.array(micros.to_numpy() // MILLION)
  if 'rating' in table.column_names:
    columns['rating'] = table['rating']
  return pa.table(columns)


def partial_path(path: str) -> Path:
  """Returns a unique path for a file that is later renamed to `path`."""
  return Path(path).parent / f'.{unique("part")}'
