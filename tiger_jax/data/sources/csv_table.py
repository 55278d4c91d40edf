"""Reads CSV files, with any usual separator and encoding."""

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
  """Reads the wanted columns as text, None where a cell is empty.

  The file is UTF-8, or UTF-16 with a byte order mark. Columns that are
  `repeating` are dictionary-encoded. Also returns notes for the user.

  Raises:
    DataError: The file is not such a table, or lacks a column.
  """
  with path.open('rb') as file:
    sample = file.read(_SAMPLE_BYTES)
  encoding = file_kinds.encoding(path, sample)
  with csv_rows.long_cells():
    names, num_lines, separator = _header(
      path, sample, encoding, {*required, *optional}
    )
  found, notes = column_names.select(path, names, required, optional)
  repeated = pa.dictionary(pa.int32(), pa.string())
  types = {
    position: repeated if name in repeating else pa.string()
    for name, position in found.items()
  }
  layout = (path, encoding, separator, num_lines, len(names))
  # Arrow is much faster, but it reads `a, "b"` as a, and "b" with its marks.
  read = _read_by_arrow(*layout, types)
  if read is None:
    rows = _quoted(csv_rows.read(*layout))
    # In UTF-8 and in quotation marks, a row can be four times as long.
    read = _parse(rows, len(names), types, block_size=4 * MAX_ROW_BYTES)
  columns = dict(zip(found, read, strict=True))
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
  """Reads a file directly; returns None if it is not as Arrow demands."""
  # The reader accepts a quotation that is not closed: its cell extends to the
  # end of the file. An empty row that is appended then becomes part of it.
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

  The reader refuses a row that is longer than its `block_size`.
  """
  every = {str(i): types.get(i, pa.string()) for i in range(num_cells)}
  table = arrow_csv.read_csv(
    io.BufferedReader(_Bytes(content)),
    read_options=arrow_csv.ReadOptions(
      column_names=list(every),
      **options,
    ),
    parse_options=arrow_csv.ParseOptions(
      delimiter=separator, newlines_in_values=True
    ),
    convert_options=arrow_csv.ConvertOptions(
      # Without types, the reader would infer integers: 00123 becomes 123.
      column_types=every,
      null_values=[''],
      strings_can_be_null=True,
      quoted_strings_can_be_null=True,
      include_columns=[str(position) for position in types],
    ),
  )
  return table.columns


def _quoted(rows: Iterable[list[str]]) -> Iterator[bytes]:
  """Yields rows as Arrow demands them."""
  for row in rows:
    cells = (cell.replace('"', '""') for cell in row)
    yield ('"' + '","'.join(cells) + '"\n').encode()


def _values(column: pa.ChunkedArray) -> Iterator[pa.Array]:
  """Yields the texts of a column, each of a dictionary only once."""
  for chunk in column.chunks:
    is_coded = pa.types.is_dictionary(chunk.type)
    yield chunk.dictionary if is_coded else chunk


class _Bytes(io.RawIOBase):
  """A file of parts, of which none is empty."""

  def __init__(self, parts: Iterator[bytes]):
    self._parts = parts
    self._rest = memoryview(b'')

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    self._rest = self._rest or memoryview(next(self._parts, b''))
    size = min(len(buffer), len(self._rest))
    buffer[:size] = self._rest[:size]
    self._rest = self._rest[size:]
    return size


def _header(
  path: Path, sample: bytes, encoding: str, wanted: set[str]
) -> tuple[list[str], int, str]:
  """Returns the column names, the number of header lines, and the separator."""
  # The sample may end within a character.
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
    what = (
      'does not begin with names of columns' if text.strip() else 'is empty'
    )
    raise DataError(f'{path} {what}: add a first line that names the columns')
  if is_cut:
    raise DataError(
      f'{path}: the names of its columns have more than {_SAMPLE_BYTES} bytes, '
      'the most that is read: shorten them; if they are not that long, a '
      'quotation mark is not closed'
    )
  if any('\ufffd' in name for name in names):
    raise file_kinds.not_utf8(path, f'{path}, line 1 is')
  return names, num_lines, separator


def _is_skipped(row: list[str]) -> bool:
  # A first line such as sep=; gives Excel the separator.
  return csv_rows.is_blank(row) or row[0].startswith('sep=')
