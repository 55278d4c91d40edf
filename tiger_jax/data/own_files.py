"""Your own shop: a file of interactions and a file of items.

`interactions` has the columns user, item and timestamp; `items` has item,
title and, if you like, price, brand, categories and description. Each is a
`.csv`, `.jsonl` or `.parquet` file.
"""

from collections.abc import Sequence
import datetime
from pathlib import Path
from typing import Any

from jaxtyping import Int64
import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from tiger_jax.config import DatasetConfig
from tiger_jax.data import assembly, item_text, raw_lines
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.errors import DataError, UsageError

_SUFFIXES = ('.csv', '.jsonl', '.parquet')
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_Columns = dict[str, list[Any]]


def load(config: DatasetConfig) -> Dataset:
  """Reads the two files in `config.source_dir`.

  Ids may be text or integers. Times are integers of any one unit, or ISO
  8601, which becomes microseconds since 1970, UTC where no zone is given.

  Args:
    config: The dataset section.

  Returns:
    The dataset; items that nobody bought are in its catalogue.

  Raises:
    UsageError: `source_dir` is empty.
    DataError: A file is missing, damaged, lacks a column or a value, or the
      two do not fit each other.
  """
  if not config.source_dir:
    raise UsageError(
      'config.dataset.source_dir is empty: name the folder that holds your '
      'interactions and items'
    )
  folder = Path(config.source_dir)
  events_file = _find(folder, 'interactions')
  items_file = _find(folder, 'items')
  log = _read(events_file, ('user', 'item', 'timestamp'), ())
  events = assembly.Events.from_log(
    users=_ids(events_file, 'user', log['user']),
    items=_ids(events_file, 'item', log['item']),
    timestamps=_times(events_file, log['timestamp']),
  )
  return assembly.assemble(
    config, events, _catalogue(items_file), str(events_file), str(items_file)
  )


def _catalogue(path: Path) -> dict[str, dict[str, str]]:
  columns = _read(path, ('item',), FIELDS)
  if 'title' not in columns:
    raise DataError(
      f'{path} has no column title: the columns are item, {", ".join(FIELDS)}, '
      'of which item and title are needed'
    )
  ids = _ids(path, 'item', columns.pop('item'))
  catalogue: dict[str, dict[str, str]] = {}
  for index, item_id in enumerate(ids):
    if item_id in catalogue:
      raise DataError(
        f'{path} lists item {item_id!r} twice: keep one of the two'
      )
    catalogue[item_id] = {
      name: _field(name, values[index]) for name, values in columns.items()
    }
  return catalogue


def _field(name: str, value: Any) -> str:
  if name == 'price':
    return item_text.price(value)
  if name == 'categories':
    return item_text.categories(value)
  # Shops do have brands and titles that are numbers.
  return item_text.plain(str(value) if type(value) is int else value)


def candidates(folder: Path) -> list[Path]:
  """Returns every file that could be one of the two, there or not."""
  return _candidates(folder, 'interactions') + _candidates(folder, 'items')


def _candidates(folder: Path, name: str) -> list[Path]:
  return [folder / f'{name}{suffix}' for suffix in _SUFFIXES]


def _find(folder: Path, name: str) -> Path:
  paths = _candidates(folder, name)
  found = [path for path in paths if path.is_file()]
  if not found:
    raise DataError(
      f'{folder} holds no {name} file: add {", ".join(p.name for p in paths)}, '
      'any one of them'
    )
  if len(found) > 1:
    raise DataError(
      f'{folder} holds {" and ".join(p.name for p in found)}: keep one of them'
    )
  return found[0]


def _read(
  path: Path, required: Sequence[str], optional: Sequence[str]
) -> _Columns:
  """Returns the columns by name, the optional ones only where there are."""
  names = (*required, *optional)
  if path.suffix == '.jsonl':
    columns = _read_jsonl(path, names)
  else:
    columns = _read_arrow(path, names)
  missing = [name for name in required if name not in columns]
  if missing:
    raise DataError(
      f'{path} has no column {missing[0]}: it needs {", ".join(required)}'
    )
  if not columns[required[0]]:
    raise DataError(f'{path} is empty: add at least one row')
  return columns


def _read_jsonl(path: Path, names: Sequence[str]) -> _Columns:
  records = [record.values for record in raw_lines.read(path)]
  present = [name for name in names if any(name in x for x in records)]
  return {name: [x.get(name) for x in records] for name in present}


def _read_arrow(path: Path, names: Sequence[str]) -> _Columns:
  try:
    if path.suffix == '.csv':
      table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
          # Left to guess, the reader would take the zeros off 00123.
          column_types={name: pa.string() for name in names},
          null_values=[''],
          strings_can_be_null=True,
          quoted_strings_can_be_null=True,
        ),
      )
    else:
      file = parquet.ParquetFile(path)
      present = [name for name in file.schema_arrow.names if name in names]
      table = file.read(columns=present)
    return {
      name: table.column(name).to_pylist()
      for name in table.column_names
      if name in names
    }
  except (pa.ArrowException, OSError, KeyError, ValueError) as error:
    reason = ' '.join(str(error).split())
    raise DataError(
      f'{path} cannot be read as {path.suffix[1:]} ({reason}): correct it or '
      'write it again'
    ) from error


def _ids(path: Path, name: str, values: list[Any]) -> list[str]:
  for index, value in enumerate(values):
    text = str(value)
    if (
      type(value) not in (str, int)
      or not text.strip()
      or not item_text.is_unicode(text)
    ):
      raise DataError(
        f'{path}, row {index + 1}: {name} is {value!r}: it must be text or an '
        'integer'
      )
  return [str(value) for value in values]


def _times(path: Path, values: list[Any]) -> Int64[np.ndarray, ' n']:
  numbers: list[int] = []
  kinds = set()
  for index, value in enumerate(values):
    kind, number = _time(value)
    if number is None or not -(2**63) <= number < 2**63:
      raise DataError(
        f'{path}, row {index + 1}: timestamp is {value!r}: it must be an '
        'integer or an ISO 8601 date'
      )
    kinds.add(kind)
    numbers.append(number)
  if len(kinds) > 1:
    raise DataError(
      f'{path} has integers and ISO 8601 dates as timestamps: use one of them'
    )
  return np.asarray(numbers, np.int64)


def _time(value: Any) -> tuple[str, int | None]:
  """Returns the kind of a timestamp, and its number if it is one."""
  if type(value) is int:
    return 'integer', value
  if isinstance(value, str):
    try:
      return 'integer', int(value)
    except ValueError:
      pass
    try:
      value = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
      return 'unknown', None
  if isinstance(value, datetime.datetime):
    if value.tzinfo is None:
      value = value.replace(tzinfo=datetime.UTC)
    return 'date', (value - _EPOCH) // _MICROSECOND
  if type(value) is datetime.date:
    return 'date', (value - _EPOCH.date()) // _MICROSECOND
  return 'unknown', None
