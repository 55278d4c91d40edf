"""Reads datasets whose files are tables of text: MovieLens and RecBole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.sources import assembly, delimited, official_files
from tiger_jax.data.sources.archives import Member
from tiger_jax.data.sources.bad_rows import BadRows
from tiger_jax.data.sources.log_builder import (
  CLEAN,
  LogBuilder,
  TextsBuilder,
  parse_time,
  wrong,
)
from tiger_jax.errors import DataError


class Table(NamedTuple):
  """A file of rows.

  Attributes:
    file: The file.
    split: Divides a line into cells.
    encoding: The encoding.
    names: The names of the columns.
    has_header: Whether the first line has the names of the columns.
  """

  file: Member
  split: Callable[[str], list[str]]
  encoding: str
  names: tuple[str, ...]
  has_header: bool = True

  def rows(self, bad: BadRows) -> Iterator[tuple[str, list[str]]]:
    """Yields the place and the cells of each row with the right length.

    Raises:
      DataError: The header differs from the names, or a row is bad and no bad
        rows are allowed.
    """
    file, width = str(self.file), len(self.names)
    is_header = self.has_header
    for number, cells in delimited.rows(self.file, self.split, self.encoding):
      where = f'{file}, line {number}'
      if is_header:
        is_header = False
        if tuple(cells or ()) != self.names:
          raise DataError(
            f'{file} begins with {item_text.shown(cells)}, not with '
            f'{", ".join(self.names)}: use the official file'
          )
      elif cells is None:
        bad.add(wrong(where, 'the line', 'other bytes', self.encoding))
      elif len(cells) != width:
        expected = f'{width}: {", ".join(self.names)}'
        bad.add(wrong(where, 'the number of cells', len(cells), expected))
      else:
        yield where, cells


class Events(NamedTuple):
  """A table of events, and the positions of its columns; -1 if missing."""

  table: Table
  user: int
  item: int
  time: int = -1
  rating: int = -1


class Items(NamedTuple):
  """A table of items.

  Attributes:
    table: The table.
    item: The position of the column of ids.
    texts: Returns the text fields of a row by name.
  """

  table: Table
  item: int
  texts: Callable[[list[str]], dict[str, str]]


def load(
  config: DatasetConfig,
  events: Events,
  items: Items | None,
  text_columns: Sequence[str],
) -> Dataset:
  """Reads both tables, see `assembly.assemble`.

  Args:
    config: The filters.
    events: The table of events.
    items: The table of items; None if the ids of items are their titles.
    text_columns: The names of the required texts of items. Each is one of
      `dataset.FIELDS`, or a column of the table without its type.

  Raises:
    DataError: A file is missing or damaged, or lacks required content.
  """
  events_file = str(events.table.file)
  rows = {'interactions': BadRows(config.max_bad_share)}
  with official_files.damage_removed(events.table.file):
    builder = _read_events(config, events, rows['interactions'])
  log = builder.log(events_file, has_times=events.time >= 0)
  fields = FieldCounts()
  texts, items_file, repeats = None, events_file, {}
  if items:
    items_file = str(items.table.file)
    rows['items'] = BadRows(config.max_bad_share)
    names = [name.partition(':')[0] for name in items.table.names]
    columns = TextsBuilder(tuple(dict.fromkeys((*FIELDS, *text_columns))))
    extra = {
      name: names.index(name)
      for name in columns.names
      if name in names and name not in FIELDS
    }
    with official_files.damage_removed(items.table.file):
      _read_texts(items, extra, rows['items'], columns, fields)
    rows['items'].check(items_file)
    texts = columns.texts(items_file, text_columns, names)
    repeats = {'repeated': columns.repeated}
  dataset = assembly.assemble(config, log, texts, events_file, items_file)
  return assembly.with_counts(
    dataset,
    (),
    items=repeats,
    fields=fields.fields,
    rows={name: bad.counts.as_json() for name, bad in rows.items()},
  )


def _read_events(
  config: DatasetConfig, events: Events, bad: BadRows
) -> LogBuilder:
  table, user, item, time, rating = events
  builder = LogBuilder(bad, bool(config.min_rating) and rating >= 0)
  value, stars = 0.0, None
  for where, cells in table.rows(bad):
    if time >= 0:
      parsed = parse_time(cells[time])
      if parsed is None:
        bad.add(wrong(where, 'the time', cells[time], 'a number of seconds'))
        continue
      value = parsed
    if rating >= 0:
      stars = cells[rating]
    builder.add(where, cells[user], cells[item], value, stars)
  return builder


def _read_texts(
  items: Items,
  extra: Mapping[str, int],
  bad: BadRows,
  builder: TextsBuilder,
  fields: FieldCounts,
) -> None:
  """Adds all items to `builder`; `extra` has positions of further columns."""
  for where, cells in items.table.rows(bad):
    item_id = cells[items.item]
    if not item_text.is_clean(item_id):
      bad.add(wrong(where, 'the item', item_id, CLEAN))
      continue
    texts = {name: cells[i] for name, i in extra.items()} | items.texts(cells)
    short = where.rpartition('/')[2]
    builder.add(
      item_id,
      {
        name: fields.read(name, texts[name], short) if name in texts else ''
        for name in builder.names
      },
    )
    bad.counts.keep()
