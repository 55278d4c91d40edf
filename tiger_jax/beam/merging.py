"""Merges the counts of the workers of `prepare`.

The results and the errors equal those of one machine that reads all files.
"""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Int64
import numpy as np
import pyarrow as pa

from tiger_jax.beam import events, jobs
from tiger_jax.config import DatasetConfig
from tiger_jax.data.events import assembly, event_log, event_times, filters, ids
from tiger_jax.data.files.bad_rows import BadRows


class Source(NamedTuple):
  """The raw files.

  Attributes:
    events: The files of the interactions.
    items: The files of the items.
    shown: The path of the interactions, for messages.
  """

  events: list[Path]
  items: list[Path]
  shown: Path


class Read(NamedTuple):
  """The results of the first pipeline.

  Attributes:
    source: The raw files.
    files: The results of `events.read`.
    items: The result of `items.read`, or None.
    buckets: The results of `events.keep`, in the order of the buckets.
    bad: The counts of the rows of the interactions.
    form: The form of the times.
  """

  source: Source
  files: list[jobs.Result]
  items: jobs.Result | None
  buckets: list[jobs.Result]
  bad: BadRows
  form: event_times.Form


def drops(
  config: DatasetConfig, buckets: Sequence[jobs.Result]
) -> filters.Drops:
  """Returns the numbers of dropped events and users of all buckets.

  The numbers are removed from `buckets`, because several filters may have the
  same reason.
  """
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


def bought(paths: Sequence[str]) -> pa.Table:
  """Returns the counts of all items, sorted by the first row of each item."""
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


def refuse_short_users(read: Read, drops: filters.Drops, shown: str) -> None:
  """Raises DataError if a user has too few events."""
  num_short = sum(x['num_short'] for x in read.buckets)
  if num_short:
    _, user, length = min(x for y in read.buckets for x in y['short'])
    num_long = sum(x['num_users'] for x in read.buckets) - num_short
    raise assembly.short_users(
      num_short, (user, length), num_long, drops.events, shown
    )


def catalog(
  config: DatasetConfig,
  read: Read,
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


def _notes(read: Read) -> list[str]:
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
