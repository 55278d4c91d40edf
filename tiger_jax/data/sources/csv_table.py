"""Reads columns of CSV files with common separators and encodings."""

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
import io
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
import pyarrow.compute as pc

from tiger_jax.data.sources import column_names, csv_rows, file_kinds
from tiger_jax.data.sources.csv_rows import MAX_ROW_BYTES
from tiger_jax.errors import DataError

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
_SEPARATORS = {',': '","', ';': '";"', '\t': 'a tab', '|': '"|"'}
# Enough for any line of column names.
_SAMPLE_BYTES = 2**20


def read(
  path: Path,
  required: Sequence[str],
  optional: Sequence[str],
  repeating: Iterable[str],
) -> tuple[dict[str, pa.ChunkedArray], tuple[str, ...]]:
  """Returns columns as text, and notes for the user.

  Empty cells become None. The file is UTF-8, or UTF-16 with a byte order mark.
  Columns named in `repeating` are dictionary-encoded.

  Raises:
    DataError: The file is not a CSV table, or lacks a required column.
  """
  with path.open('rb') as file:
    sample = file.read(_SAMPLE_BYTES)
  encoding = file_kinds.encoding(path, sample)
  with csv_rows.long_cells():
    names, num_lines, separator = _header(
      path, sample, encoding, {*required, *optional}
    )
  positions, notes = column_names.select(path, names, required, optional)
  repeated = pa.dictionary(pa.int32(), pa.string())
  types = {
    position: repeated if name in repeating else pa.string()
    for name, position in positions.items()
  }
  layout = (path, encoding, separator, num_lines, len(names))
  # Arrow is much faster than `csv_rows`, but it misreads some files: in the row
  # `a, "b"`, it keeps the quotation marks of "b".
  arrays = _read_by_arrow(*layout, types)
  if arrays is None:
    rows = _quoted(csv_rows.read(*layout))
    # Quotation marks and UTF-8 can make a row four times as long.
    arrays = _parse(rows, len(names), types, block_size=4 * MAX_ROW_BYTES)
  columns = dict(zip(positions, arrays, strict=True))
  for values in itertools.chain(*map(_values, columns.values())):
    longest = _compute.max(_compute.binary_length(values)).as_py()
    if (longest or 0) > MAX_ROW_BYTES:
      raise csv_rows.too_long(path)
  if separator != ',':
    notes += (f'{path.name}: separated by {_SEPARATORS[separator]}',)
  return columns, notes


def _read_by_arrow(
  path: Path,
  encoding: str,
  separator: str,
  num_header_lines: int,
  num_cells: int,
  types: Mapping[int, pa.DataType],
) -> list[pa.ChunkedArray] | None:
  """Reads a file with Arrow; returns None if Arrow would misread the file."""
  # Arrow accepts a quotation mark that is never closed: the cell then extends
  # to the end of the file. To detect such a cell, a row of empty cells is
  # appended to the file. An open cell absorbs this row.
  end = f'\n{separator * (num_cells - 1)}\n'.encode(encoding)
  try:
    with path.open('rb') as file:
      columns = _parse(
        itertools.chain(iter(lambda: file.read(_SAMPLE_BYTES), b''), [end]),
        num_cells,
        types,
        separator,
        block_size=MAX_ROW_BYTES,
        skip_rows=num_header_lines,
        encoding='utf8' if encoding == 'utf-8' else 'utf-16',
      )
  except (UnicodeError, pa.ArrowInvalid):
    return None
  rows = len(columns[0]) - 1
  if rows < 0 or any(column[rows].is_valid for column in columns):
    return None
  columns = [column.slice(0, rows) for column in columns]
  for values in itertools.chain(*map(_values, columns)):
    if _compute.any(_compute.match_substring_regex(values, '^ +"')).as_py():
      return None
  return columns


def _parse(
  content: Iterator[bytes],
  num_cells: int,
  types: Mapping[int, pa.DataType],
  separator: str = ',',
  **options: Any,
) -> list[pa.ChunkedArray]:
  """Reads the columns at the positions of `types` from the bytes of a file.

  Arrow raises an error for a row longer than `block_size`.
  """
  column_types = {str(i): types.get(i, pa.string()) for i in range(num_cells)}
  table = arrow_csv.read_csv(
    io.BufferedReader(_Bytes(content)),
    read_options=arrow_csv.ReadOptions(
      column_names=list(column_types),
      **options,
    ),
    parse_options=arrow_csv.ParseOptions(
      delimiter=separator, newlines_in_values=True
    ),
    convert_options=arrow_csv.ConvertOptions(
      # Without types, Arrow would infer integers: 00123 would become 123.
      column_types=column_types,
      null_values=[''],
      strings_can_be_null=True,
      quoted_strings_can_be_null=True,
      include_columns=[str(position) for position in types],
    ),
  )
  return table.columns


def _quoted(rows: Iterable[list[str]]) -> Iterator[bytes]:
  """Yields rows as CSV in which every cell has quotation marks."""
  for row in rows:
    cells = (cell.replace('"', '""') for cell in row)
    yield ('"' + '","'.join(cells) + '"\n').encode()


def _values(column: pa.ChunkedArray) -> Iterator[pa.Array]:
  """Yields the texts of a column, or the distinct texts of a dictionary."""
  for chunk in column.chunks:
    is_dictionary = pa.types.is_dictionary(chunk.type)
    yield chunk.dictionary if is_dictionary else chunk


class _Bytes(io.RawIOBase):
  """A binary file whose content comes from an iterator of non-empty parts."""

  def __init__(self, parts: Iterator[bytes]):
    self._parts = parts
    self._unread = memoryview(b'')

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    self._unread = self._unread or memoryview(next(self._parts, b''))
    size = min(len(buffer), len(self._unread))
    buffer[:size] = self._unread[:size]
    self._unread = self._unread[size:]
    return size


def _header(
  path: Path, sample: bytes, encoding: str, wanted: set[str]
) -> tuple[list[str], int, str]:
  """Returns the column names, the number of header lines, and the separator."""
  # Decoded incrementally, because the sample may end within a character.
  text = codecs.getincrementaldecoder(encoding)('replace').decode(sample)
  text = text.lstrip('\ufeff')
  best: tuple[int, int] = (-1, -1)
  header: tuple[list[str], int, str] = ([], 0, ',')
  is_cut = False
  for separator in _SEPARATORS:
    lines = io.StringIO(text, newline='')
    rows = csv_rows.reader(lines, separator)
    names = next((x for x in rows if not _is_skipped(x)), [])
    score = len({column_names.column_of(name) for name in names} & wanted)
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
