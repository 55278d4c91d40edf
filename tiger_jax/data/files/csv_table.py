"""Reads columns of CSV files with common separators and encodings."""

import codecs
from collections.abc import Iterator
import io
from pathlib import Path
import re
from typing import Any

from jaxtyping import Int64
import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
import pyarrow.compute as pc

from tiger_jax.data.files import byte_streams, csv_rows, file_kinds
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.files.column_names import Columns
from tiger_jax.data.files.csv_lines import CsvLines
from tiger_jax.errors import DataError

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
_SEPARATORS = {',': '","', ';': '";"', '\t': 'a tab', '|': '"|"'}
# Enough for any line of column names.
_SAMPLE_BYTES = 2**20
_BLOCK_BYTES = 4 * 2**20
_BLANK_LINE = re.compile(rb'^\r?\n', re.MULTILINE)
_Arrays = list[pa.Array]


def read(
  path: Path, wanted: Columns, bad: BadRows, notes: list[str]
) -> Iterator[tuple[Int64[np.ndarray, ' rows'], dict[str, pa.Array]]]:
  """Yields blocks of rows: their numbers, and their columns as text.

  Empty cells become None. The file is UTF-8, or UTF-16 with a byte order mark.

  Args:
    path: The file.
    wanted: The columns to read.
    bad: Counts the lines that are not valid rows of the table.
    notes: A list to which the function appends sentences for the user.

  Raises:
    DataError: The file is not a CSV table, or lacks a required column.
  """
  with byte_streams.opened(path) as raw:
    sample = raw.read(_SAMPLE_BYTES)
    encoding = file_kinds.encoding(path, sample)
    lines = CsvLines(path, _Joined(sample, raw), encoding, sample)
    with csv_rows.long_cells():
      names, num_lines, separator = _header(path, sample, encoding, wanted)
    positions, more = wanted.select(path, names)
    notes += more
    if separator != ',':
      notes.append(f'{path.name}: separated by {_SEPARATORS[separator]}')
    for _ in range(num_lines):
      lines.take_line(_SAMPLE_BYTES)
    rows = csv_rows.CsvRows(path, lines, separator, len(names), bad, num_lines)
    read_positions = sorted(set(positions.values()))
    for numbers, arrays in _blocks(
      lines, rows, separator, len(names), read_positions
    ):
      by_position = dict(zip(read_positions, arrays, strict=True))
      yield numbers, {name: by_position[i] for name, i in positions.items()}


class _Joined:
  """A binary file whose beginning was already read."""

  def __init__(self, start: bytes, rest: Any):
    self._start = start
    self._rest = rest

  def read(self, size: int) -> bytes:
    if self._start:
      start, self._start = self._start, b''
      return start
    return self._rest.read(size)


def _blocks(
  lines: CsvLines,
  rows: csv_rows.CsvRows,
  separator: str,
  num_cells: int,
  positions: list[int],
) -> Iterator[tuple[Int64[np.ndarray, ' rows'], _Arrays]]:
  """Yields the numbers and the columns of rows, block by block.

  Arrow is much faster than `csv_rows`, but it misreads some rows: in the row
  `a, "b"`, it keeps the quotation marks of "b". Blocks with such rows are
  therefore read by `csv_rows`.
  """
  while True:
    end = lines.position + 1
    lines.mark()
    if block := lines.take_lines(_BLOCK_BYTES):
      num_lines = block.count(b'\n') + (not block.endswith(b'\n'))
      num_rows = num_lines - len(_BLANK_LINE.findall(block))
      arrays = _read_by_arrow(block, separator, num_cells, positions, num_rows)
      if arrays is not None:
        first = rows.num_rows + 1
        rows.num_rows += num_rows
        rows.num_lines += num_lines
        yield np.arange(first, first + num_rows), arrays
        continue
      end = lines.position
      lines.rewind(0)
    numbers, cells = rows.read(end, positions)
    if numbers:
      yield np.asarray(numbers), [_as_array(column) for column in cells]
    elif not block and lines.position < end:
      return


def _as_array(cells: list[str]) -> pa.Array:
  return pa.array([cell or None for cell in cells], pa.string())


def _read_by_arrow(
  block: bytes,
  separator: str,
  num_cells: int,
  positions: list[int],
  num_rows: int,
) -> _Arrays | None:
  """Reads lines with Arrow; returns None if Arrow would misread a line.

  If each line of a block is a row or blank, no quotation in the block contains
  a line break. The next block then also begins with a row.
  """
  # Arrow accepts a quotation mark that is never closed: the cell then extends
  # to the end of the block. To detect such a cell, a row of empty cells is
  # appended. An open cell absorbs this row.
  if block.count(b'\r') != block.count(b'\r\n'):
    return None  # To Arrow, a carriage return is the end of a line.
  end = separator * (num_cells - 1) if num_cells > 1 else '""'
  types = {str(i): pa.string() for i in range(num_cells)}
  try:
    table = arrow_csv.read_csv(
      pa.BufferReader(b''.join([block, b'\n' * (not block.endswith(b'\n')),
                                end.encode(), b'\n'])),
      read_options=arrow_csv.ReadOptions(column_names=list(types)),
      parse_options=arrow_csv.ParseOptions(
        delimiter=separator, newlines_in_values=True
      ),
      convert_options=arrow_csv.ConvertOptions(
        # Without types, Arrow would infer integers: 00123 would become 123.
        column_types=types,
        null_values=[''],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        include_columns=[str(position) for position in positions],
      ),
    )  # fmt: skip
  except pa.ArrowInvalid:
    return None
  if len(table) != num_rows + 1:
    return None
  arrays = [column.combine_chunks() for column in table.columns]
  if b'"' in block and any(
    _compute.any(_compute.match_substring_regex(array, '^ +"')).as_py()
    for array in arrays
  ):
    return None
  return [array.slice(0, num_rows) for array in arrays]


def _header(
  path: Path, sample: bytes, encoding: str, wanted: Columns
) -> tuple[list[str], int, str]:
  """Returns the column names, the number of header lines, and the separator."""
  # Decoded incrementally, because the sample may end within a character.
  text = codecs.getincrementaldecoder(encoding)('replace').decode(sample)
  text = text.lstrip('\ufeff')
  if '\n' not in text:
    text = text.replace('\r', '\n')
  best: tuple[int, int] = (-1, -1)
  header: tuple[list[str], int, str] = ([], 0, ',')
  is_cut = False
  for separator in _SEPARATORS:
    lines = io.StringIO(text, newline='\n')
    rows = csv_rows.reader(lines, separator)
    names = next((x for x in rows if not _is_skipped(x)), [])
    score = len(wanted.find(names))
    if (score, len(names)) > best:
      best = score, len(names)
      header = names, rows.line_num, separator
      is_cut = lines.tell() == len(text) and len(sample) == _SAMPLE_BYTES
  names, num_lines, separator = header
  if not names:
    problem = 'does not begin with column names' if text.strip() else 'is empty'
    raise DataError(
      f'{path} {problem}: add a first line that names the columns'
    )
  if is_cut:
    raise DataError(
      f'{path}: the line of column names has more than {_SAMPLE_BYTES} bytes, '
      'which is the limit: shorten it; if it is not that long, a quotation '
      'mark is not closed'
    )
  if any('\ufffd' in name for name in names):
    raise file_kinds.not_utf8(path, f'{path}, line 1 is')
  return names, num_lines, separator


def _is_skipped(row: list[str]) -> bool:
  # A first line such as `sep=;` tells Excel the separator.
  return csv_rows.is_blank(row) or row[0].startswith('sep=')
