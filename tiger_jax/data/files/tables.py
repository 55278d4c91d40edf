"""Reads columns of tables block by block: CSV, JSON Lines and Parquet."""

from collections.abc import Iterator, Sequence
import decimal
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Int64
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tiger_jax.data import item_text
from tiger_jax.data.files import (
  bad_rows,
  byte_streams,
  csv_table,
  file_kinds,
  json_table,
)
from tiger_jax.data.files.bad_rows import BadRow, BadRows
from tiger_jax.data.files.column_names import Columns
from tiger_jax.errors import DataError

_READERS = {
  '.csv': csv_table.read,
  '.tsv': csv_table.read,
  '.txt': csv_table.read,
  '.jsonl': json_table.read,
  '.json': json_table.read,
}
SUFFIXES = (*_READERS, '.parquet')
_BLOCK_ROWS = 2**16
# A list of Python objects if the values may have several types.
Column = list[Any] | pa.Array
NUMBERS = (int, float, decimal.Decimal)


class Block(NamedTuple):
  """A block of rows of a file.

  Attributes:
    path: The file.
    numbers: The number of each row in the file, counted from 1.
    columns: The columns. A column that the file does not have is missing.
    unit: The word for an entry of `numbers`: `row` or `line`.
  """

  path: Path
  numbers: Int64[np.ndarray, ' rows']
  columns: dict[str, Column]
  unit: str = 'row'

  def bad_row(self, name: str, row: int, requirement: str) -> BadRow:
    """Returns an error about a cell that does not meet a requirement."""
    where = f'{self.path}, {self.unit} {self.numbers[row]}'
    wrong = value(self.columns[name], row)
    return bad_rows.wrong(where, name, wrong, requirement)


class Table:
  """One table in one or several files of the same kind.

  Attributes:
    notes: Sentences for the user. They are complete after all rows are read.
  """

  def __init__(
    self,
    paths: Sequence[Path],
    wanted: Columns,
    bad: BadRows,
    *,
    may_be_empty: bool = False,
  ):
    """Prepares to read columns.

    Args:
      paths: The files.
      wanted: The columns.
      bad: Counts the rows that cannot be read.
      may_be_empty: Whether the table may have no row.
    """
    self.notes: list[str] = []
    self._paths = paths
    self._wanted = wanted
    self._bad = bad
    self._may_be_empty = may_be_empty

  def blocks(self) -> Iterator[Block]:
    """Yields all rows.

    Raises:
      DataError: A file is missing or damaged, or lacks a column; or there is no
        row.
    """
    is_empty = True
    for path in self._paths:
      # All files of a table have the same form, so notes on one are enough.
      notes = self.notes if path == self._paths[0] else []
      for numbers, columns in _read(path, self._wanted, self._bad, notes):
        if len(numbers):
          is_empty = False
          yield Block(path, numbers, columns)
    if is_empty and not (self._may_be_empty or self._bad.counts.num_dropped):
      raise empty(self._paths[0])


def empty(path: Path) -> DataError:
  """Returns an error about a table without rows; `path` is its first file."""
  return DataError(f'{path} is empty: add at least one row')


def _read(
  path: Path, wanted: Columns, bad: BadRows, notes: list[str]
) -> Iterator[tuple[Int64[np.ndarray, ' rows'], dict[str, Any]]]:
  suffix = byte_streams.suffix(path)
  try:
    if suffix == '.parquet' and path.suffix != '.parquet':
      raise DataError(
        f'{path} is compressed twice, because Parquet has its own compression: '
        'decompress the file'
      )
    with byte_streams.opened(path) as file:
      start = file.read(512)
    file_kinds.check(path, start)
    read = _READERS.get(suffix, _read_parquet)
    if suffix in _READERS and file_kinds.encoding(path, start) != 'utf-8':
      notes.append(f'{path.name}: read as UTF-16')
    yield from read(path, wanted, bad, notes)
  except (pa.ArrowException, OSError, KeyError, ValueError) as error:
    reason = item_text.plain(str(error))[:200]
    raise DataError(
      f'{path} cannot be read as {suffix[1:]} ({reason}): correct it or '
      'write it again'
    ) from error


def values(column: Column) -> list[Any]:
  """Returns a column as Python objects.

  A value without an equivalent in Python becomes an `item_text.Unreadable`.
  """
  if isinstance(column, list):
    return column
  if is_temporal(column.type):
    return [item_text.Unreadable(str(column.type)) if x else None
            for x in column.is_valid().to_pylist()]  # fmt: skip
  try:
    return column.to_pylist()
  # Raised for a list with a date out of range, and for text that is not UTF-8.
  except (OverflowError, ValueError):
    return [value(column, row) for row in range(len(column))]


def is_temporal(kind: pa.DataType) -> bool:
  """Returns whether the values may be out of range for Python's date types."""
  return pa.types.is_temporal(kind) or pa.types.is_interval(kind)


def is_text(kind: pa.DataType) -> bool:
  """Returns whether a type is text of any size."""
  return (
    pa.types.is_string(kind)
    or pa.types.is_large_string(kind)
    or pa.types.is_string_view(kind)
  )


def value(column: Column, row: int) -> Any:
  """Returns one value of a column, like `values`."""
  if isinstance(column, list):
    return column[row]
  try:
    return column[row].as_py()
  except (OverflowError, ValueError):
    return item_text.Unreadable(str(column.type))


def _read_parquet(
  path: Path, wanted: Columns, bad: BadRows, notes: list[str]
) -> Iterator[tuple[Int64[np.ndarray, ' rows'], dict[str, Column]]]:
  """Yields blocks of rows, see `csv_table.read`."""
  del bad  # The values of a column have one type, so every row can be read.
  number = 1
  with parquet.ParquetFile(path) as file:
    names = file.schema_arrow.names
    positions, more = wanted.select(path, names)
    notes += more
    selected = sorted({names[i] for i in positions.values()})
    for batch in file.iter_batches(_BLOCK_ROWS, columns=selected):
      columns = {
        name: _as_text(batch.column(names[i])) for name, i in positions.items()
      }
      yield np.arange(number, number + len(batch)), columns
      number += len(batch)


def _as_text(column: pa.Array) -> pa.Array:
  """Decodes dictionaries, and casts bytes to text if they are UTF-8.

  Some programs write text as bytes.
  """
  kind = column.type
  if pa.types.is_dictionary(kind):
    # The dictionaries of two row groups may differ.
    column = column.dictionary_decode()
    kind = column.type
  is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
  if not is_bytes and not is_text(kind):
    return column
  try:
    column = column.cast(pa.large_string() if is_bytes else kind)
    column.validate(full=True)
  except pa.ArrowInvalid:
    return column.cast(pa.large_binary())
  return column
