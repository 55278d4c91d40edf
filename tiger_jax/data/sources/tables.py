"""Reads columns from `.csv`, `.jsonl` and `.parquet` files."""

from collections.abc import Collection, Sequence
import os
from pathlib import Path
import stat
from typing import Any, NamedTuple

from jaxtyping import Int32
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tiger_jax.data import item_text
from tiger_jax.data.sources import (
  column_names,
  csv_table,
  file_kinds,
  raw_lines,
)
from tiger_jax.errors import DataError

SUFFIXES = ('.csv', '.jsonl', '.parquet')
# A list of Python objects if the values may have several types.
Column = list[Any] | pa.ChunkedArray


class Table(NamedTuple):
  """Columns of a file by their standard names, and notes for the user."""

  path: Path
  columns: dict[str, Column]
  num_rows: int
  notes: tuple[str, ...] = ()

  def refusal(self, name: str, row: int, requirement: str) -> DataError:
    """Returns an error about a cell that does not meet a requirement."""
    value = item_text.shown(_value(self.columns[name], row))
    return DataError(
      f'{self.path}, row {row + 1}: {name} is {value}: {requirement}'
    )


class Codes(NamedTuple):
  """A column, encoded as its distinct values and one index per row.

  An index of -1 stands for None. `values` are in order of first appearance.
  """

  rows: Int32[np.ndarray, ' rows']
  values: list[Any]


def read(
  path: Path,
  required: Sequence[str],
  optional: Sequence[str] = (),
  repeating: Collection[str] = (),
) -> Table:
  """Reads columns of a `.csv`, `.jsonl` or `.parquet` file.

  In the file, the columns may have any name that `column_names` knows. Columns
  named in `repeating` are dictionary-encoded, which saves memory if their
  values repeat.

  Raises:
    DataError: The file is missing or damaged, lacks a column, or is empty.
  """
  columns: dict[str, Any]
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      raise DataError(f'{path} is not a regular file: put a file there')
    with path.open('rb') as file:
      start = file.read(512)
    file_kinds.check(path, start)
    if path.suffix == '.jsonl':
      columns, notes = _read_jsonl(path, required, optional)
    elif path.suffix == '.csv':
      columns, notes = csv_table.read(path, required, optional, repeating)
    else:
      columns, notes = _read_parquet(path, required, optional, repeating)
    if (
      path.suffix != '.parquet' and file_kinds.encoding(path, start) != 'utf-8'
    ):
      notes += (f'{path.name}: read as UTF-16',)
  except (pa.ArrowException, OSError, KeyError, ValueError) as error:
    reason = item_text.plain(str(error))[:200]
    raise DataError(
      f'{path} cannot be read as {path.suffix[1:]} ({reason}): correct it or '
      'write it again'
    ) from error
  num_rows = len(columns[required[0]])
  if not num_rows:
    raise DataError(f'{path} is empty: add at least one row')
  return Table(path, columns, num_rows, notes)


def encode(table: Table, name: str) -> Codes:
  """Returns the codes of a column.

  Raises:
    DataError: A value cannot be an id, because it is a date, a list, a record,
      or text that is not UTF-8.
  """
  column = table.columns[name]
  if isinstance(column, list):
    return _encode_list(table, name, column)
  if _is_temporal(column.type):
    raise table.refusal(name, 0, 'it must be text or an integer')
  numbers: dict[Any, int] = {}
  parts = [np.zeros(0, np.int32)]
  for chunk in column.chunks:
    try:
      if not pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_encode()
      values = chunk.dictionary.to_pylist()
    except pa.ArrowNotImplementedError as error:
      raise DataError(
        f'{table.path}: {name} is of type {str(column.type)[:40]}: it must be '
        'text or whole numbers'
      ) from error
    except ValueError as error:
      raise _not_text(table.path, name) from error
    rows = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    # A dictionary may contain None, and values that do not occur.
    used, first = np.unique(rows[rows >= 0], return_index=True)
    renumbered = np.full(len(values) + 1, -1, np.int32)
    for code in used[np.argsort(first)].tolist():
      if values[code] is not None:
        renumbered[code] = numbers.setdefault(values[code], len(numbers))
    parts.append(renumbered[rows])
  return Codes(np.concatenate(parts), list(numbers))


def values(table: Table, name: str) -> list[Any]:
  """Returns a column as Python objects.

  A value without an equivalent in Python becomes an `item_text.Unreadable`.
  """
  column = table.columns[name]
  if isinstance(column, list):
    return column
  if _is_temporal(column.type):
    return [item_text.Unreadable(str(column.type)) if x else None
            for x in column.is_valid().to_pylist()]  # fmt: skip
  try:
    return column.to_pylist()
  # Raised for a list with a date out of range, and for text that is not UTF-8.
  except (OverflowError, ValueError):
    return [_value(column, row) for row in range(len(column))]


def _value(column: Column, row: int) -> Any:
  if isinstance(column, list):
    return column[row]
  try:
    return column[row].as_py()
  except (OverflowError, ValueError):
    return item_text.Unreadable(str(column.type))


def _is_temporal(kind: pa.DataType) -> bool:
  """Returns whether Python's date types may be unable to hold the values."""
  return pa.types.is_temporal(kind) or pa.types.is_interval(kind)


def _encode_list(table: Table, name: str, column: list[Any]) -> Codes:
  # The type is part of the key, because 1, 1.0 and True are equal in Python.
  numbers: dict[tuple[type, Any], int] = {}
  rows = np.empty(len(column), np.int32)
  for row, value in enumerate(column):
    if value is None:
      rows[row] = -1
      continue
    try:
      rows[row] = numbers.setdefault((type(value), value), len(numbers))
    except TypeError:  # A list or a record.
      raise table.refusal(name, row, 'it must be text or an integer') from None
  return Codes(rows, [value for _, value in numbers])


def _read_jsonl(
  path: Path, required: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
  """Reads columns record by record."""
  wanted = {*required, *optional}
  kept: dict[str, list[Any]] = {}
  other_names: dict[str, None] = {}
  num_rows = 0
  for record in raw_lines.read(path):
    for key, value in record.values.items():
      if key in kept:
        kept[key].append(value)
      elif key not in other_names and isinstance(key, str):
        if column_names.column_of(key) in wanted:
          kept[key] = [*[None] * num_rows, value]
        # The names of other fields are kept only for an error message.
        elif len(other_names) < 100:
          other_names[key] = None
    num_rows += 1
    for column in kept.values():
      if len(column) < num_rows:
        column.append(None)
  if not num_rows:
    raise DataError(f'{path} is empty: add at least one row')
  return column_names.merge(path, kept, other_names, required)


def _read_parquet(
  path: Path,
  required: Sequence[str],
  optional: Sequence[str],
  repeating: Collection[str],
) -> tuple[dict[str, Column], tuple[str, ...]]:
  with parquet.ParquetFile(path) as file:
    schema = file.schema_arrow
  names = schema.names
  positions, notes = column_names.select(path, names, required, optional)
  repeated = [
    names[i]
    for name, i in positions.items()
    if name in repeating and _is_text(schema.field(i).type)
  ]
  with parquet.ParquetFile(path, read_dictionary=repeated) as file:
    table = file.read(columns=[names[i] for i in positions.values()])
  columns = {
    name: _as_text(path, name, table.column(names[i]))
    for name, i in positions.items()
  }
  return columns, notes


def _as_text(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
  """Casts bytes to text, because some programs write text as bytes."""
  kind = column.type
  try:
    if pa.types.is_dictionary(kind) and _is_bytes(kind.value_type):
      return column.cast(pa.dictionary(kind.index_type, pa.string()))
    return column.cast(pa.string()) if _is_bytes(kind) else column
  except pa.ArrowInvalid as error:
    raise _not_text(path, name) from error


def _not_text(path: Path, name: str) -> DataError:
  return DataError(
    f'{path}: {name} has a value that is not UTF-8: write the column as text'
  )


def _is_text(kind: pa.DataType) -> bool:
  is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind)
  return is_string or _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
  return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
