"""Implements `prepare`, which turns raw interactions into filtered histories.

The output has the format of your own data, see docs/data.md. With the same
config, except `dataset.columns`, it gives the same dataset as the raw files:

`interactions/part-00000.parquet`, ...: the events, sorted by user and time
`items/part-00000.parquet`: the catalog, in the order of its rows
`shards.json`: the list of these files, and the counts of the raw files

The users are in the order of their first rows in the raw files.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import itertools
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from tiger_jax.beam import core, events, folders, items, jobs, merging
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.events import event_log, event_times, filters
from tiger_jax.data.events.time_values import DATE
from tiger_jax.data.files import byte_streams, input_files, shards, tables
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError, PeerError, UsageError

# The size of the raw files for each bucket. To process a bucket, a worker needs
# several times this memory.
_BUCKET_BYTES = 2**26
_LEAST_BUCKETS, _MOST_BUCKETS = 8, 4096
# The assumed ratio of the size of a file before and after compression.
_COMPRESSION = 6


def prepare(
  config: DatasetConfig,
  text_columns: Sequence[str],
  out: Path,
  flags: Sequence[str],
) -> dict[str, Any]:
  """Prepares a dataset, and writes it to a folder.

  Args:
    config: The folder of the raw files, and the filters.
    text_columns: The text columns that the items must have, see
      `own_files.load`.
    out: The folder to write, which must not exist.
    flags: The flags of the Beam runner.

  Returns:
    The counts, as in `Dataset.counts`.

  Raises:
    UsageError: The dataset is not `files`, or the folder exists.
    DataError: See `own_files.load`.
    PeerError: A worker died.
  """
  if config.name != 'files':
    raise UsageError(
      f'config.dataset.name is {config.name!r}, but prepare reads only your '
      'own files: set it to files, and config.dataset.source_dir to their '
      'folder'
    )
  if not config.source_dir:
    raise UsageError(
      'config.dataset.source_dir is empty: name the folder that holds your '
      'interactions and items'
    )
  folders.refuse_existing(out)
  folder = Path(config.source_dir).absolute()
  shards.check(folder)
  config = _absolute(config)
  events_files = input_files.require(folder, 'interactions')
  source = merging.Source(
    events_files,
    input_files.find(folder, 'items'),
    input_files.shown(folder, 'interactions', events_files),
  )
  filters.read_excluded(config)  # Raises an error if a list cannot be read.
  with folders.replaced(out.absolute()) as (result, work):
    settings = events.Settings(
      config, str(work), _form(config, source), _num_buckets(source.events)
    )
    read = _read(settings, source, text_columns, flags, work)
    return _write(settings, read, text_columns, flags, result, work)


def _absolute(config: DatasetConfig) -> DatasetConfig:
  """Makes the paths absolute, because workers may run in other folders."""
  names = ('source_dir', 'exclude_users', 'exclude_items')
  paths = {name: getattr(config, name) for name in names}
  absolute = {name: os.path.abspath(x) for name, x in paths.items() if x}
  return dataclasses.replace(config, **absolute)


def _num_buckets(paths: Sequence[Path]) -> int:
  size = sum(
    path.stat().st_size
    * (_COMPRESSION if path.suffix in byte_streams.COMPRESSIONS else 1)
    for path in paths
  )
  return min(max(size // _BUCKET_BYTES, _LEAST_BUCKETS), _MOST_BUCKETS)


def _form(config: DatasetConfig, source: merging.Source) -> event_times.Form:
  """Reads rows until they determine the form of the times, and returns it.

  If all times are small numbers, the whole table is read.
  """
  times = event_times.Times()
  # Workers raise the same error later, after they have counted the rows.
  with contextlib.suppress(DataError):
    for path in source.events:
      table = tables.Table(
        [path], own_files.event_columns(config), BadRows(1), may_be_empty=True
      )
      for block in table.blocks():
        if 'timestamp' not in block.columns:
          return times.form
        times.read(block.columns['timestamp'])
        if times.form.is_known:
          return times.form
  return times.form


def _first_task(
  settings: events.Settings, text_columns: Sequence[str], element: Any
) -> jobs.Result:
  """Reads a file of interactions, or all files of items."""
  kind, value = element
  if kind == 'items':
    return items.read(settings, value, text_columns)
  return events.read(settings, value)


def _read(
  settings: events.Settings,
  source: merging.Source,
  text_columns: Sequence[str],
  flags: Sequence[str],
  work: Path,
) -> merging.Read:
  """Runs the first pipeline, and checks the rows of all files together.

  Raises:
    DataError: The error that one machine would find first.
  """
  elements: list[Any] = [
    ('events', (number, str(path))) for number, path in enumerate(source.events)
  ]
  if source.items:
    elements.append(('items', [str(path) for path in source.items]))
  results, buckets = jobs.run(
    flags, work,
    functools.partial(_first_task, settings, tuple(text_columns)), elements,
    functools.partial(events.keep, settings),
  )  # fmt: skip
  files = results[: len(source.events)]
  bad = BadRows(settings.config.max_bad_share)
  blocks = []
  for result in files:
    bad.counts.add(result['rows'])
    if result['first']:
      path, row, columns = result['first']
      blocks.append((Path(path), row, columns))
      event_log.refuse_other_columns(blocks[0], blocks[-1])
  if not bad.counts.num_read:
    raise tables.empty(source.events[0])
  event_log.check_rows(bad, source.shown)
  num_kept = sum(x['num_read'] for x in buckets)
  if num_kept != bad.counts.kept:
    raise PeerError(
      f'the first task wrote {bad.counts.kept:,} events, but the second task '
      f'read {num_kept:,}: run the same command again'
    )
  text_items = results[-1] if source.items else None
  return merging.Read(source, files, text_items, buckets, bad, settings.form)


def _write(
  settings: events.Settings,
  read: merging.Read,
  text_columns: Sequence[str],
  flags: Sequence[str],
  result: Path,
  work: Path,
) -> dict[str, Any]:
  """Applies the filters that need all events, and runs the second pipeline."""
  config, shown = settings.config, str(read.source.shown)
  drops = merging.drops(config, read.buckets)
  num_used = sum(x['num_used'] for x in read.buckets)
  num_users = sum(x['num_users'] for x in read.buckets)
  bought = merging.bought([x['items'] for x in read.buckets])
  item_ids = bought['item'].combine_chunks()
  num_events = bought['events'].to_numpy()
  core_file = ''
  if config.k_core and num_used:
    least = filters.min_user_events(config)
    paths = [x['events'] for x in read.buckets]
    found = core.find(paths, item_ids, least, config.k_core, work)
    by_user_reason, by_item_reason, user_reason = filters.core_reasons(config)
    num_left = int(found.num_events.sum())
    drops.add(by_user_reason, num_used - num_left - found.by_item)
    drops.add(by_item_reason, found.by_item)
    drops.add_users(user_reason, num_users - found.num_users)
    num_events, num_used, num_users = (
      found.num_events,
      num_left,
      found.num_users,
    )
    core_file = str(work / 'core.arrow')
    kept_ids = item_ids.filter(pa.array(found.kept))
    events.write_arrow(core_file, {'item': kept_ids})
  num_read = read.bad.counts.kept
  if not num_used:
    raise filters.nothing_left(config, drops, num_read, shown)
  if not config.k_core:
    merging.refuse_short_users(read, drops, shown)
  catalog, dataset_counts = merging.catalog(
    config, read, item_ids.to_pylist(), num_events
  )
  total = num_users + sum(drops.users.values())
  dataset_counts |= {
    'events': counts.flow(num_read, num_used, drops.events),
    'users': counts.flow(total, num_users, drops.users),
  }
  catalog_file = str(work / 'catalog.arrow')
  events.write_arrow(catalog_file, {'item': pa.array(catalog, pa.string())})
  for name in ('interactions', 'items'):
    (result / name).mkdir()
  is_date = settings.form.kind == DATE or any(
    x['has_fraction'] for x in read.files
  )
  elements = _shards(
    read.buckets, 'date' if is_date else 'number', core_file,
    result / 'interactions',
  )  # fmt: skip
  write_items = (
    catalog_file, read.items['texts'] if read.items else '',
    tuple(text_columns), str(result / 'items' / 'part-00000.parquet'),
  )  # fmt: skip
  written, _ = jobs.run(
    flags, work, functools.partial(_last_task, settings),
    [*elements, write_items],
  )  # fmt: skip
  num_written = sum(x['num_events'] for x in written[:-1])
  if num_written != num_used:
    raise PeerError(
      f'the second task kept {num_used:,} events, but {num_written:,} were '
      'written: run the same command again'
    )
  shards.write(result, {'counts': dataset_counts})
  return dataset_counts


def _last_task(settings: events.Settings, element: Any) -> jobs.Result:
  """Writes a shard of the events, or the items."""
  if isinstance(element, events.Shard):
    return events.write(settings, element)
  return items.write(*element)


def _shards(
  buckets: Sequence[jobs.Result], time_type: str, core_file: str, folder: Path
) -> list[events.Shard]:
  """Divides the users among as many shards as there are buckets."""
  cuts = sorted(cut for result in buckets for cut in result['cuts'])
  step = max(1, -(-len(cuts) // len(buckets)))
  bounds = [0, *cuts[step::step], 2**62]
  paths = tuple(x['events'] for x in buckets)
  return [
    events.Shard(
      str(folder / f'part-{number:05}.parquet'), paths, start, end, time_type,
      core_file,
    )
    for number, (start, end) in enumerate(itertools.pairwise(bounds))
  ]  # fmt: skip
