"""Turns raw interactions into filtered histories, `prepare`.

The output is again a folder of own files, see docs/data.md. With the same
config, it gives the same dataset as the raw files:

`interactions/part-00000.parquet`, ...: the remaining events, sorted by user and
  time. The users are in the order of their first rows in the raw files.
`items/part-00000.parquet`: the catalog, in the order of its rows.
`shards.json`: the list of these files, and the counts of the raw files.
"""

import collections
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Int64
import numpy as np
import pyarrow as pa

from tiger_jax.beam import core, events, folders, items, jobs
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.events import assembly, event_log, event_times, filters, ids
from tiger_jax.data.events.time_values import DATE
from tiger_jax.data.files import byte_streams, input_files, shards, tables
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError, UsageError

# The size of the raw files for each bucket. A worker needs several times this
# memory for a bucket.
_BUCKET_BYTES = 2**26
_LEAST_BUCKETS, _MOST_BUCKETS = 8, 4096
# A compressed file has this number of times more bytes when it is decompressed.
_COMPRESSION = 6


class _Source(NamedTuple):
  """The raw files.

  Attributes:
    events: The files of the interactions.
    items: The files of the items.
    shown: The path of the interactions, for messages.
  """

  events: list[Path]
  items: list[Path]
  shown: Path


class _Read(NamedTuple):
  """What the first pipeline found.

  Attributes:
    source: The raw files.
    files: The results of `events.read`.
    items: The result of `items.read`, or None.
    buckets: The results of `events.keep`, in the order of the buckets.
    bad: The counts of the rows of the interactions.
    form: The form of the times.
  """

  source: _Source
  files: list[jobs.Result]
  items: jobs.Result | None
  buckets: list[jobs.Result]
  bad: BadRows
  form: event_times.Form


def prepare(
  config: DatasetConfig,
  text_columns: Sequence[str],
  out: Path,
  flags: Sequence[str],
) -> dict[str, Any]:
  """Writes the folder of a prepared dataset.

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
      f'config.dataset.name is {config.name!r}: prepare reads own files, so '
      'set it to files, and name their folder in config.dataset.source_dir'
    )
  folders.refuse_existing(out)
  folder = Path(config.source_dir).absolute()
  config = _absolute(config)
  events_files = input_files.require(folder, 'interactions')
  source = _Source(
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
  """Makes the paths absolute. Workers may have other current folders."""
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


def _form(config: DatasetConfig, source: _Source) -> event_times.Form:
  """Returns the form of the times, which the first rows determine.

  If all times are small numbers, the whole table is read.
  """
  times = event_times.Times()
  # A worker finds the same error. Then, the counts of the rows are known.
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
  source: _Source,
  text_columns: Sequence[str],
  flags: Sequence[str],
  work: Path,
) -> _Read:
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
  text_items = results[-1] if source.items else None
  return _Read(source, files, text_items, buckets, bad, settings.form)


def _write(
  settings: events.Settings,
  read: _Read,
  text_columns: Sequence[str],
  flags: Sequence[str],
  result: Path,
  work: Path,
) -> dict[str, Any]:
  """Applies the filters that need all events, and runs the second pipeline."""
  config, shown = settings.config, str(read.source.shown)
  drops = _drops(config, read.buckets)
  num_used = sum(x['num_used'] for x in read.buckets)
  num_users = sum(x['num_users'] for x in read.buckets)
  bought = _bought([x['items'] for x in read.buckets])
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
    _refuse_short_users(read, drops, shown)
  catalog, dataset_counts = _catalog(
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
  assert sum(x['num_events'] for x in written[:-1]) == num_used
  shards.write(result, {'counts': dataset_counts})
  return dataset_counts


def _last_task(settings: events.Settings, element: Any) -> jobs.Result:
  """Writes a shard of the events, or the items."""
  if isinstance(element, events.Shard):
    return events.write(settings, element)
  return items.write(*element)


def _drops(
  config: DatasetConfig, buckets: Sequence[jobs.Result]
) -> filters.Drops:
  """Returns the sums of the dropped events and users."""
  drops = filters.Drops()
  excluded = filters.read_excluded(config)
  # The reasons are listed in the order of the filters.
  for step in filters.steps(config, excluded):
    for result in buckets:
      number = result['dropped_events'].pop(step.event_reason, 0)
      drops.add(step.event_reason, number)
      number = result['dropped_users'].pop(step.user_reason, 0)
      drops.add_users(step.user_reason, number)
  return drops


def _bought(paths: Sequence[str]) -> pa.Table:
  """Returns the items of all events in the order of their first rows."""
  parts = None
  for path in paths:
    table = events.read_arrow(path)
    if parts is not None:
      table = pa.concat_tables([parts, table])
    grouped = table.group_by('item').aggregate(
      [('events', 'sum'), ('rows', 'sum'), ('first', 'min')]
    )
    parts = grouped.rename_columns(
      {'events_sum': 'events', 'rows_sum': 'rows', 'first_min': 'first'}
    ).select(['item', 'events', 'rows', 'first'])
  assert parts is not None
  return parts.sort_by('first')


def _refuse_short_users(read: _Read, drops: filters.Drops, shown: str) -> None:
  """Raises DataError if a user has too few events."""
  num_short = sum(x['num_short'] for x in read.buckets)
  if num_short:
    _, user, length = min(x for y in read.buckets for x in y['short'])
    num_long = sum(x['num_users'] for x in read.buckets) - num_short
    raise assembly.short_users(
      num_short, (user, length), num_long, drops.events, shown
    )


def _catalog(
  config: DatasetConfig,
  read: _Read,
  item_ids: list[str],
  num_events: Int64[np.ndarray, ' items'],
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """Returns the ids of the catalog in the order of its rows, and counts."""
  excluded = filters.read_excluded(config)
  rows = {'interactions': read.bad.counts.as_json()}
  found: dict[str, Any] = {'rows': rows, 'fields': {}}
  notes = _notes(read)
  places: dict[str, int] = {}
  if read.items:
    texts = events.read_arrow(read.items['texts'])
    places = assembly.places_of(texts['item'].to_pylist())
    notes += read.items['notes']
    found |= {'fields': read.items['fields']}
    rows['items'] = read.items['rows']
  users = set().union(*(x['excluded_users'] for x in read.buckets))
  notes += filters.notes(excluded, users, item_ids, places)
  if not read.items:
    notes.append(assembly.NO_ITEMS)
  elif missing := assembly.missing_items(
    config, item_ids, num_events, places, str(read.source.shown),
    read.items['path'],
  ):  # fmt: skip
    found['missing'] = missing
  catalog, item_counts = assembly.catalog(
    config.k_core, excluded['exclude_items'], item_ids, num_events, places
  )
  return catalog, found | {'items': item_counts, 'notes': notes}


def _notes(read: _Read) -> list[str]:
  """Returns the notes on the interactions."""
  name = read.source.shown.name
  notes = list(read.files[0]['notes'])
  firsts = [x['first'] for x in read.files if x['first']]
  if 'timestamp' in firsts[0][2]:
    num_early = sum(x['num_early'] for x in read.files)
    notes += event_times.notes(name, read.form, num_early)
  users: collections.Counter[str] = collections.Counter()
  for result in read.buckets:
    users.update(dict(result['placeholders']))
  notes += [ids.placeholder_note(name, 'user', *x) for x in users.items()]
  if 'timestamp' not in firsts[0][2]:
    notes.append(event_log.no_times(name))
  return notes


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
