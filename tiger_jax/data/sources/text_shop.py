"""Reads datasets whose files are tables of text: MovieLens and RecBole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.events import assembly, event_log, ids
from tiger_jax.data.events.item_table import ItemTable
from tiger_jax.data.events.log import Log
from tiger_jax.data.files import delimited
from tiger_jax.data.files.archives import Member
from tiger_jax.data.files.bad_rows import BadRow, BadRows, wrong
from tiger_jax.data.sources import official_files
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

  def rows(self, bad: BadRows) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each row of the right length.

    Raises:
      DataError: The header differs from the names, or a row is bad and no bad
        rows are allowed.
    """
    file, width = str(self.file), len(self.names)
    is_header = self.has_header
    for number, cells in delimited.rows(self.file, self.split, self.encoding):
      if is_header:
        is_header = False
        if tuple(cells or ()) != self.names:
          raise DataError(
            f'{file} begins with {item_text.shown(cells)}, not with '
            f'{", ".join(self.names)}: use the official file'
          )
      elif cells is not None and len(cells) == width:
        yield number, cells
      else:
        where = f'{file}, line {number}'
        if cells is None:
          bad.add(
            BadRow(
              f'{where} is not {self.encoding}: correct it',
              f'not {self.encoding}', where, 'other bytes',
            )
          )  # fmt: skip
        else:
          expected = f'it must be {width}: {", ".join(self.names)}'
          bad.add(wrong(where, 'number of cells', len(cells), expected))


class Events(NamedTuple):
  """A table of events, the positions of its columns, and notes for the user.

  The position of a missing column is -1.
  """

  table: Table
  user: int
  item: int
  time: int = -1
  rating: int = -1
  notes: Sequence[str] = ()


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
  log, notes = _read_events(config, events, rows['interactions'])
  fields = FieldCounts()
  texts, items_file, repeats = None, events_file, {}
  if items:
    items_file = str(items.table.file)
    rows['items'] = BadRows(config.max_bad_share)
    names = [name.partition(':')[0] for name in items.table.names]
    columns = ItemTable(tuple(dict.fromkeys((*FIELDS, *text_columns))))
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
    [*events.notes, *notes],
    items=repeats,
    fields=fields.fields,
    rows={name: bad.counts.as_json() for name, bad in rows.items()},
  )


def _read_events(
  config: DatasetConfig, events: Events, bad: BadRows
) -> tuple[Log, list[str]]:
  table = events.table
  columns = {'user': events.user, 'item': events.item}
  if events.time >= 0:
    columns['timestamp'] = events.time
  if config.min_rating and events.rating >= 0:
    columns['rating'] = events.rating
  path = Path(str(table.file))
  rows = _rows(table, tuple(columns.values()), bad)
  blocks = event_log.blocks(path, rows, tuple(columns), _as_text)
  log, notes = event_log.read(blocks, bad, path)
  if log.timestamps is None:
    notes.append(event_log.no_times(path.name))
  return log, notes


def _rows(
  table: Table, positions: Sequence[int], bad: BadRows
) -> Iterator[tuple[Any, ...]]:
  """Yields the number of each line, and the cells at the positions."""
  with official_files.damage_removed(table.file):
    for number, cells in table.rows(bad):
      yield number, *(cells[i] or None for i in positions)


def _as_text(cells: Sequence[str | None]) -> pa.Array:
  return pa.array(cells, pa.string())


def _read_texts(
  items: Items,
  extra: Mapping[str, int],
  bad: BadRows,
  builder: ItemTable,
  fields: FieldCounts,
) -> None:
  """Adds all items to `builder`; `extra` has positions of further columns."""
  for number, cells in items.table.rows(bad):
    where = f'{items.table.file}, line {number}'
    item_id = ids.as_text(cells[items.item])
    if item_id is None:
      bad.add(wrong(where, 'item', cells[items.item] or None, ids.REQUIREMENT))
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
