"""Reads CSV files row by row: slower than Arrow, but more tolerant.

Blank lines are ignored, and so are spaces before a quotation mark. Errors name
the row.
"""

import codecs
from collections.abc import Iterator
import contextlib
import csv
from pathlib import Path
from typing import Any, TextIO

from tiger_jax.data.sources import file_kinds
from tiger_jax.errors import DataError

MAX_ROW_BYTES = 16 * 2**20
_SAMPLE_BYTES = 2**20


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


class _Lines:
  """Yields the lines of a file and then an empty line.

  The csv module reads the empty line as a row without cells, unless a quotation
  mark is still open at the end of the file. `size` is the number of characters
  read since the caller set it to zero. `ended` is true after the empty line.
  """

  def __init__(self, path: Path, file: TextIO):
    self.size = 0
    self.ended = False
    self._path = path
    self._file = file

  def __iter__(self) -> Iterator[str]:
    while line := self._file.readline(MAX_ROW_BYTES + 1):
      self.size += len(line)
      if self.size > MAX_ROW_BYTES:
        raise too_long(self._path)
      yield line
    self.ended = True
    yield '\n'


def read(
  path: Path,
  encoding: str,
  separator: str,
  num_header_lines: int,
  num_cells: int,
) -> Iterator[list[str]]:
  """Yields every row after the header.

  Raises:
    DataError: A row is too long or does not have `num_cells` cells, a quotation
      mark is not closed, or the file is not valid in `encoding`.
  """
  number = 0
  with path.open(encoding=encoding, newline='') as file, long_cells():
    lines = _Lines(path, file)
    rows = reader(lines, separator)
    line = 1
    try:
      for row in rows:
        where = f'{path}, row {number + 1} (line {line} of the file)'
        if lines.ended and row:
          raise DataError(
            f'{where} ends within a quotation: the " at the beginning of a '
            'cell is not closed; close it, or if it is part of the text, '
            'double it and enclose the cell in quotation marks'
          )
        if rows.line_num > num_header_lines and not is_blank(row):
          number += 1
          if len(row) != num_cells:
            raise DataError(
              f'{where} has {len(row)} cells, but the first line names '
              f'{num_cells} columns: correct the row; text that contains the '
              'separator must be in quotation marks'
            )
          yield row
        lines.size = 0
        line = rows.line_num + 1
    except UnicodeError as error:
      if encoding != 'utf-8':
        raise file_kinds.not_utf16(path) from error
      where = f'{path}, line {_bad_line(path)} is'
      raise file_kinds.not_utf8(path, where) from error


def too_long(path: Path) -> DataError:
  """Returns an error about a row that exceeds the limit."""
  return DataError(
    f'{path} has a row of more than {MAX_ROW_BYTES} bytes ('
    f'{MAX_ROW_BYTES // 2**20} MB), which is the limit: shorten its text; if '
    'no text is that long, a quotation mark is not closed'
  )


def _bad_line(path: Path) -> int:
  """Returns the number of the first line that is not UTF-8."""
  number = 1
  decoder = codecs.getincrementaldecoder('utf-8')()
  with path.open('rb') as file:
    while line := file.readline(_SAMPLE_BYTES):
      try:
        decoder.decode(line)
      except UnicodeDecodeError:
        break
      number += line.endswith(b'\n')
  return number
