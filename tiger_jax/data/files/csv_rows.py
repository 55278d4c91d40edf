"""Reads CSV rows one by one: slower than Arrow, but more tolerant.

Blank lines are ignored, and so are spaces before a quotation mark. Error
messages give the row.
"""

from collections.abc import Iterator
import contextlib
import csv
import io
from pathlib import Path
from typing import Any

from tiger_jax.data.files import file_kinds
from tiger_jax.data.files.bad_rows import BadRow, BadRows
from tiger_jax.data.files.csv_lines import CsvLines
from tiger_jax.errors import DataError

# Rows are limited to this number of characters. A character has up to four
# bytes.
MAX_ROW_BYTES = 16 * 2**20
_MAX_LINE_BYTES = 4 * MAX_ROW_BYTES
# The largest number of bytes to read again after rows that do not end.
_MAX_READ_AGAIN = 2**26
_SAMPLE = 80
_BLOCK_BYTES = 2**20


def reader(lines: Any, separator: str) -> Any:
  """Returns a `csv.reader` that ignores spaces before a cell."""
  return csv.reader(lines, delimiter=separator, skipinitialspace=True)


@contextlib.contextmanager
def long_cells() -> Iterator[None]:
  """Lets the csv module read cells as long as the longest allowed row."""
  before = csv.field_size_limit(MAX_ROW_BYTES)
  try:
    yield
  finally:
    csv.field_size_limit(before)


def is_blank(row: list[str]) -> bool:
  """Returns whether a row comes from a blank line."""
  return len(row) < 2 and not ''.join(row).strip()


class _TooLong(Exception):
  """A row exceeds the limit."""


class _RowLines:
  """Yields the lines of a file and then an empty line.

  The csv module reads the empty line as a row without cells, unless a quotation
  mark is still open at the end of the file.

  Attributes:
    taken: The number of bytes that were yielded.
    row_start: The value of `taken` before the current row.
    num_lines: The number of lines of the current row.
    first: The first line of the current row.
    is_utf8: Whether the lines of the current row are valid UTF-8.
    ended: Whether the empty line was yielded.
  """

  def __init__(self, lines: CsvLines):
    lines.mark()
    self.taken = 0
    self.ended = False
    self._lines = lines
    self.start_row()

  def start_row(self) -> None:
    self.row_start = self.taken
    self.num_lines = 0
    self.first = b''
    self.is_utf8 = True
    self._size = 0

  def __iter__(self) -> Iterator[str]:
    lines = self._lines
    while block := (
      lines.take_lines(_BLOCK_BYTES) or lines.take_line(_MAX_LINE_BYTES)
    ):
      for line in io.BytesIO(block):
        self.taken += len(line)
        self.num_lines += 1
        self.first = self.first or line
        try:
          text = line.decode()
        except UnicodeDecodeError:
          self.is_utf8 = False
          text = line.decode('utf-8', 'surrogateescape')
        self._size += len(text)
        if self._size > MAX_ROW_BYTES:
          raise _TooLong
        yield text
    self.ended = True
    yield '\n'


class CsvRows:
  """Reads rows from the lines of a file.

  Attributes:
    num_rows: The number of good and bad rows so far.
    num_lines: The number of lines so far.
  """

  def __init__(
    self,
    path: Path,
    lines: CsvLines,
    separator: str,
    num_cells: int,
    bad: BadRows,
    num_lines: int,
  ):
    """Starts after the line of column names, which is line `num_lines`."""
    self.num_rows = 0
    self.num_lines = num_lines
    self._path = path
    self._lines = lines
    self._separator = separator
    self._num_cells = num_cells
    self._bad = bad
    self._read_again = 0

  def read(
    self, end: int, positions: list[int]
  ) -> tuple[list[int], list[list[str]]]:
    """Returns the rows up to a position in the file, but at least one row.

    Args:
      end: The position, see `CsvLines.position`.
      positions: The columns to read.

    Returns:
      The number of each good row, and the cells of each column.
    """
    numbers: list[int] = []
    columns: list[list[str]] = [[] for _ in positions]
    self._restart()
    with long_cells():
      while True:
        try:
          row = self._next_row(positions)
        except BadRow as error:
          self._bad.add(error)
        else:
          if row is None:
            break
          numbers.append(self.num_rows)
          for column, position in zip(columns, positions, strict=True):
            column.append(row[position])
        if self._position + self._row_lines.taken >= end:
          break
    self._lines.rewind(self._row_lines.taken)
    return numbers, columns

  def _restart(self) -> None:
    """Starts to read rows at the current position of the lines."""
    self._position = self._lines.position
    self._row_lines = _RowLines(self._lines)
    self._reader = reader(iter(self._row_lines), self._separator)

  def _next_row(self, positions: list[int]) -> list[str] | None:
    """Returns the next row that is not blank; None at the end of the file."""
    while True:
      lines = self._row_lines
      lines.start_row()
      try:
        row = next(self._reader)
      except (_TooLong, csv.Error) as error:
        self.num_rows += 1
        where = self._where()
        self._skip_line()
        if isinstance(error, csv.Error) and 'limit' not in str(error):
          raise self._wrong(
            lines.first,
            f'{where} is not a row of CSV ({error}): correct the row',
            'not CSV', where,
          ) from error  # fmt: skip
        raise self._wrong(
          lines.first, f'{too_long(self._path)}', 'longer than 16 MB', where
        ) from error
      if lines.ended:
        if not row:
          return None
        self.num_rows += 1
        where = self._where()
        self._skip_line()
        raise self._wrong(
          lines.first,
          f'{where} ends within a quotation: the " at the beginning of a '
          'cell is not closed; close it, or if it is part of the text, '
          'double it and enclose the cell in quotation marks',
          'with a quotation that is not closed', where,
        )  # fmt: skip
      if not is_blank(row):
        break
      self.num_lines += lines.num_lines
    self.num_rows += 1
    where = self._where()
    self.num_lines += lines.num_lines
    if not lines.is_utf8 and any(
      _is_damaged(row[i : i + 1]) for i in positions
    ):
      place = f'{self._path}, line {self._bad_line(where)} is'
      message = str(file_kinds.not_utf8(self._path, place))
      raise self._wrong(lines.first, message, 'not UTF-8', where)
    if len(row) != self._num_cells:
      raise self._wrong(
        lines.first,
        f'{where} has {len(row)} cells, but the first line names '
        f'{self._num_cells} columns: correct the row; text that contains the '
        'separator must be in quotation marks',
        'with a wrong number of cells', where,
      )  # fmt: skip
    return row

  def _bad_line(self, where: str) -> int:
    """Returns the number of the first line of the row that is not UTF-8."""
    lines = self._row_lines
    row = self._lines.after_mark(lines.row_start, lines.taken)
    first = self.num_lines - lines.num_lines + 1
    for number, line in enumerate(row.split(b'\n'), first):
      try:
        line.decode()
      except UnicodeDecodeError:
        return number
    raise AssertionError(where)

  def _wrong(
    self, first: bytes, message: str, reason: str, where: str
  ) -> BadRow:
    sample = first[:_SAMPLE].strip().decode('utf-8', 'replace')
    return BadRow(message, reason, where, sample)

  def _where(self) -> str:
    return (
      f'{self._path}, row {self.num_rows} (line {self.num_lines + 1} of the '
      'file)'
    )

  def _skip_line(self) -> None:
    """Skips the first line of a row that does not end."""
    lines = self._row_lines
    after_first = lines.row_start + len(lines.first)
    self._read_again += lines.taken - after_first
    if self._read_again > _MAX_READ_AGAIN and not self._bad.strict:
      raise DataError(
        f'{self._path} has too many quotations that are not closed, the last '
        f'in row {self.num_rows}: write the file again'
      )
    self._lines.rewind(after_first)
    self.num_lines += 1
    part = lines.first
    while part and not part.endswith(b'\n'):
      self._lines.mark()
      part = self._lines.take_line(_MAX_LINE_BYTES)
    self._restart()


def too_long(path: Path) -> DataError:
  """Returns an error about a row that exceeds the limit."""
  return DataError(
    f'{path} has a row of more than {MAX_ROW_BYTES} bytes ('
    f'{MAX_ROW_BYTES // 2**20} MB), which is the limit: shorten its text; if '
    'no text is that long, a quotation mark is not closed'
  )


def _is_damaged(cells: list[str]) -> bool:
  return any('\udc80' <= x <= '\udcff' for cell in cells for x in cell)
