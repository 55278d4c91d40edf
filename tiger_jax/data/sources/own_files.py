"""Reads a dataset of your own: a table of interactions and a table of items.

`interactions` has the columns user and item, and optionally timestamp and
rating. `items` has the columns item and title, and optionally price, brand,
categories and description. `input_files` and `tables` describe the files.
`column_names` describes the other names that columns may have.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text, training_shards
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.events import assembly, event_log, ids
from tiger_jax.data.events.log import ItemTexts
from tiger_jax.data.files import input_files, shards, tables
from tiger_jax.data.files.bad_rows import BadRow, BadRows
from tiger_jax.data.files.column_names import Columns


def load(
  config: DatasetConfig, text_columns: Sequence[str] = ('title',)
) -> Dataset:
  """Reads the two tables in `config.source_dir`.

  Ids may be text or integers; spaces around them are removed. Times are
  described in `event_times`. Without a table of items, the ids of the items are
  their titles.

  Args:
    config: The folder of the files, and the filters.
    text_columns: The names of the text columns that the items must have. They
      may include columns that are not in `FIELDS`.

  Raises:
    DataError: A file is missing or damaged, or lacks a column or a value; or
      the ids of the two tables do not match.
  """
  folder = Path(config.source_dir)
  about = shards.check(folder)
  events_files = input_files.require(folder, 'interactions')
  items_files = input_files.find(folder, 'items')
  events_path = input_files.shown(folder, 'interactions', events_files)
  bad = BadRows(config.max_bad_share)
  table = tables.Table(events_files, event_columns(config), bad)
  log, notes = event_log.read(table.blocks(), bad, events_path)
  notes = [*table.notes, *notes]
  if log.timestamps is None:
    notes.append(event_log.no_times(events_path.name))
  rows = {'interactions': bad.counts.as_json()}
  items = ItemsTable(None, '', [], {}, {})
  if items_files:
    items = read_items(config, items_files, text_columns)
    notes += items.notes
    rows['items'] = items.rows
  dataset = assembly.assemble(
    config, log, items.texts, str(events_path), items.path
  )
  if not (folder / training_shards.FOLDER).exists():
    return assembly.with_counts(dataset, notes, fields=items.fields, rows=rows)
  notes.append(
    f'the {dataset.num_users:,} users of {events_path.name} are for validation '
    f'and test; the training histories are in {folder / training_shards.FOLDER}'
  )
  dataset = training_shards.attach(dataset, config, folder)
  all_counts = about['counts'] if about else dataset.counts
  return dataclasses.replace(dataset, counts=all_counts | {'notes': notes})


def event_columns(config: DatasetConfig) -> Columns:
  """Returns the columns to read from the interactions."""
  required = ['user', 'item', *(['rating'] if config.min_rating else [])]
  return Columns(required, ['timestamp'], dataclasses.asdict(config.columns))


class ItemsTable(NamedTuple):
  """The content of the items table.

  Attributes:
    texts: The texts of all items; None if there is no table.
    path: The file or folder, for messages.
    notes: Sentences for the user.
    fields: The counts of the text fields, see `data.counts`.
    rows: The counts of the rows, see `data.counts`.
  """

  texts: ItemTexts | None
  path: str
  notes: list[str]
  fields: dict[str, Any]
  rows: dict[str, Any]


def read_items(
  config: DatasetConfig, paths: list[Path], text_columns: Sequence[str]
) -> ItemsTable:
  """Reads the files of the items table; raises the errors of `load`."""
  path = str(input_files.shown(Path(config.source_dir), 'items', paths))
  optional = [name for name in FIELDS if name not in text_columns]
  named = dataclasses.asdict(config.columns)
  # The item column may have a different name in each table.
  wanted = Columns(('item', *text_columns), optional, named, {'item'})
  bad = BadRows(config.max_bad_share)
  table = tables.Table(paths, wanted, bad)
  texts, fields = _read_items(table, bad, path)
  return ItemsTable(texts, path, table.notes, fields, bad.counts.as_json())


def _read_items(
  table: tables.Table, bad: BadRows, source: str
) -> tuple[ItemTexts, dict[str, Any]]:
  """Returns the texts of all items, and the counts of their fields."""
  known = ids.Ids()
  field_counts = FieldCounts()
  fields: dict[str, list[str]] = {}
  num_items = 0
  for block in table.blocks():
    kept = []
    codes = known.encode(block.columns['item'])
    requirement = ids.requirement('item', block.columns['item'])
    for row, code in enumerate(codes.tolist()):
      if code == num_items:
        num_items += 1
        kept.append(row)
      elif code < 0:
        bad.add(block.bad_row('item', row, requirement))
      else:
        bad.add(_repeated(block, row))
    bad.counts.keep(len(kept))
    for name, column in block.columns.items():
      if name == 'item':
        continue
      values = tables.values(column)
      texts = fields.setdefault(name, [''] * (num_items - len(kept)))
      for row in kept:
        where = f'{block.path.name}, row {block.numbers[row]}'
        texts.append(field_counts.read(name, values[row], where))
    for texts in fields.values():
      texts += [''] * (num_items - len(texts))
  bad.check(source)
  return ItemTexts(known.texts(), fields), field_counts.fields


def _repeated(block: tables.Block, row: int) -> BadRow:
  where = f'{block.path}, row {block.numbers[row]}'
  value = tables.value(block.columns['item'], row)
  return BadRow(
    f'{block.path} lists item {item_text.shown(value)} twice, the second time '
    f'in row {block.numbers[row]}: keep one of the two',
    'with an item that an earlier row has', where, value,
  )  # fmt: skip
