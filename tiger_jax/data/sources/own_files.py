"""Reads a dataset of your own: a file of interactions and a file of items.

`interactions` has the columns user, item and timestamp. `items` has the columns
item and title, and optionally price, brand, categories and description. Each is
a `.csv`, `.jsonl` or `.parquet` file. Columns may have other common names, see
`column_names`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int32
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.sources import assembly, event_times, tables
from tiger_jax.data.sources.log import ItemTexts, Log
from tiger_jax.errors import DataError

_PLACEHOLDERS = {'null', 'none', 'nan', 'n/a', '<na>', '\\n', 'undefined'}


def load(
  config: DatasetConfig, text_columns: Sequence[str] = ('title',)
) -> Dataset:
  """Reads the two files in `config.source_dir`.

  Ids may be text or integers; spaces around them are removed. Times may be
  integers, all in the same unit, or ISO 8601 dates, which become microseconds
  since 1970. A date without a time zone is read as UTC.

  Args:
    config: The folder of the files, and the filters.
    text_columns: The names of the text columns that the items file must have.
      They may include other columns than `FIELDS`.

  Raises:
    DataError: A file is missing or damaged, or lacks a column or a value; or
      the ids of the two files do not match.
  """
  folder = Path(config.source_dir)
  events_file = _find(folder, 'interactions')
  items_file = _find(folder, 'items')
  table = tables.read(
    events_file, ('user', 'item', 'timestamp'), repeating=('user', 'item')
  )
  users, user_ids = _ids(table, 'user')
  items, item_ids = _ids(table, 'item')
  times, warnings = event_times.read(table, 'timestamp')
  notes = [*table.notes, *warnings]
  for name, rows, ids in (('user', users, user_ids), ('item', items, item_ids)):
    notes += _placeholders(table, name, rows, ids)
  log = Log(user_ids, users, item_ids, items, times)
  optional = [name for name in FIELDS if name not in text_columns]
  table = tables.read(items_file, ('item', *text_columns), optional)
  field_counts = FieldCounts()
  texts = _texts(table, field_counts)
  dataset = assembly.assemble(
    config, log, texts, str(events_file), str(items_file)
  )
  return assembly.with_counts(
    dataset, [*notes, *table.notes], fields=field_counts.fields
  )


def _texts(table: tables.Table, field_counts: FieldCounts) -> ItemTexts:
  rows, ids = _ids(table, 'item')
  if len(ids) < table.num_rows:
    first = np.unique(rows, return_index=True)[1]
    repeat = int(np.setdiff1d(np.arange(len(rows)), first)[0])
    item = item_text.shown(ids[rows[repeat]])
    raise DataError(
      f'{table.path} lists item {item} twice, the second time in row '
      f'{repeat + 1}: keep one of the two'
    )
  return ItemTexts(
    ids,
    {
      name: [
        field_counts.read(name, value, f'{table.path.name}, row {row}')
        for row, value in enumerate(tables.values(table, name), start=1)
      ]
      for name in table.columns
      if name != 'item'
    },
  )


def candidates(folder: Path, *names: str) -> list[Path]:
  """Returns every path at which a file of these names may exist."""
  return [folder / f'{name}{end}' for name in names for end in tables.SUFFIXES]


def _find(folder: Path, name: str) -> Path:
  if not folder.is_dir():
    raise DataError(
      f'there is no folder {folder}: set config.dataset.source_dir to the '
      'folder of your files'
    )
  paths = candidates(folder, name)
  existing = [path for path in paths if path.exists()]
  if not existing:
    raise DataError(
      f'{folder} has no {name} file: add one of '
      f'{", ".join(path.name for path in paths)}'
    )
  if len(existing) > 1:
    raise DataError(
      f'{folder} has {" and ".join(path.name for path in existing)}: keep one '
      'of them'
    )
  return existing[0]


def _ids(
  table: tables.Table, name: str
) -> tuple[Int32[np.ndarray, ' rows'], list[str]]:
  """Returns a column of ids as codes, and the id of each code."""
  rows, values = tables.encode(table, name)
  wrong = rows < 0
  if not wrong.any():
    bad_codes = [code for code, value in enumerate(values) if not _is_id(value)]
    wrong = np.isin(rows, bad_codes)
  if wrong.any():
    requirement = 'it must be text or an integer, without control characters'
    if any(isinstance(value, float) for value in values):
      requirement += (
        '; pandas turns integers into floats in a column with missing values: '
        f"remove those rows, use astype('int64') on {name}, and save it again"
      )
    raise table.refusal(name, int(np.argmax(wrong)), requirement)
  # 7, '7' and ' 7' are the same id.
  codes: dict[str, int] = {}
  renumbered = np.asarray(
    [codes.setdefault(str(value).strip(), len(codes)) for value in values],
    np.int32,
  )
  return renumbered[rows], list(codes)


def _placeholders(
  table: tables.Table,
  name: str,
  rows: Int32[np.ndarray, ' rows'],
  ids: list[str],
) -> list[str]:
  """Returns warnings about ids that stand for a missing value.

  Some programs write such an id for every unknown visitor. The events of all
  unknown visitors then seem to belong to one user.
  """
  return [
    f'{table.path.name}: {int((rows == code).sum()):,} rows have the {name} '
    f'{value!r}, which may stand for a missing value'
    for code, value in enumerate(ids)
    if value.casefold() in _PLACEHOLDERS
  ]


def _is_id(value: Any) -> bool:
  return type(value) in (str, int) and item_text.is_clean(str(value).strip())
