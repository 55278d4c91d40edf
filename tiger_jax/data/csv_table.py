"""Reads CSV files, with any usual separator and encoding."""

import codecs
from collections.abc import Iterable, Sequence
import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
import pyarrow.compute as pc

from tiger_jax.data import column_names, raw_lines
from tiger_jax.data.raw_lines import MAX_LINE_BYTES
from tiger_jax.errors import DataError

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
_SEPARATORS = {',': '","', ';': '";"', '\t': 'a tab', '|': '"|"'}
# Enough for any line of column names.
_SAMPLE_BYTES = 2**20
_UTF16 = {codecs.BOM_UTF16_LE: 'utf-16-le', codecs.BOM_UTF16_BE: 'utf-16-be'}


def read(
  path: Path,
  required: Sequence[str],
  optional: Sequence[str],
  repeating: Iterable[str],
) -> tuple[dict[str, pa.ChunkedArray], tuple[str, ...]]:
  """Reads the wanted columns as text, None where a cell is empty.

  Args:
    path: UTF-8, or UTF-16 with a byte order mark.
    required: Columns that the file must have.
    optional: Columns that are read if the file has them.
    repeating: Columns whose values repeat; they are dictionary-encoded.

  Returns:
    The columns by name, and notes about the file for the user.

  Raises:
    DataError: The file is not such a table, or lacks a column.
    OSError: The file cannot be read.
    pa.ArrowException: A row has more or fewer cells than the first.
  """
  with path.open('rb') as file:
    sample = file.read(_SAMPLE_BYTES)
    encoding = _encoding(path, sample)
    wanted = (*required, *optional)
    names, num_lines, separator = _header(path, sample, encoding, wanted)
    found = column_names.resolve(path, names, wanted)
    column_names.require(path, names, found, required)
    types = {name: pa.string() for name in map(str, range(len(names)))}
    for name in repeating:
      if name in found:
        types[str(found[name])] = pa.dictionary(pa.int32(), pa.string())
    file.seek(0)
    # The reader accepts a quotation that is not closed: its cell extends to the
    # end of the file. An empty row that is appended then becomes part of it.
    end = f'\n{separator * (len(names) - 1)}\n'.encode(encoding)
    table = _parse(
      path,
      _Appended(file, end),
      read_options=arrow_csv.ReadOptions(
        column_names=list(types),
        skip_rows=num_lines,
        # The reader refuses a row that is longer than a block.
        block_size=MAX_LINE_BYTES,
        encoding='utf8' if encoding == 'utf-8' else 'utf-16',
      ),
      parse_options=arrow_csv.ParseOptions(
        delimiter=separator, newlines_in_values=True
      ),
      convert_options=arrow_csv.ConvertOptions(
        # Without types, the reader would infer integers: 00123 becomes 123.
        column_types=types,
        null_values=[''],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        include_columns=[str(position) for position in found.values()],
      ),
    )
  columns = {name: table.column(str(found[name])) for name in found}
  rows = table.num_rows - 1
  if rows < 0 or any(column[rows].is_valid for column in columns.values()):
    raise DataError(
      f'{path} ends within a quotation: a " at the beginning of a cell is not '
      'closed; close it, or write it twice within quotation marks'
    )
  columns = {name: column.slice(0, rows) for name, column in columns.items()}
  _check_lengths(path, columns)
  notes = []
  if separator != ',':
    notes.append(f'{path.name}: separated by {_SEPARATORS[separator]}')
  if encoding != 'utf-8':
    notes.append(f'{path.name}: read as UTF-16')
  return columns, tuple(notes)


class _Appended(io.RawIOBase):
  """A file with bytes appended to it."""

  def __init__(self, file: Any, end: bytes):
    self._parts = [file, io.BytesIO(end)]

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    while self._parts:
      if size := self._parts[0].readinto(buffer):
        return size
      del self._parts[0]
    return 0


def _parse(path: Path, file: io.RawIOBase, **options: Any) -> pa.Table:
  try:
    return arrow_csv.read_csv(io.BufferedReader(file), **options)
  except UnicodeError as error:
    raise DataError(
      f'{path} is damaged: it begins as UTF-16, but it is not valid UTF-16; '
      'write it again'
    ) from error
  except pa.ArrowInvalid as error:
    if 'straddling' in str(error):
      raise _too_long(path) from error
    if 'UTF8' in str(error) or 'UTF-8' in str(error):
      where = f'{path}, line {_bad_line(path)} is'
      raise raw_lines.not_utf8(path, where) from error
    raise


def _encoding(path: Path, sample: bytes) -> str:
  if sample.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
    raise raw_lines.not_utf8(path, f'{path} is', 'UTF-32')
  if sample[:2] in _UTF16:
    return _UTF16[sample[:2]]
  # In UTF-16 without a byte order mark, every other byte of ASCII is zero.
  for first, encoding in ((1, 'UTF-16LE'), (0, 'UTF-16BE')):
    if sample[first:16:2] and not any(sample[first:16:2]):
      raise raw_lines.not_utf8(path, f'{path} is', encoding)
  return 'utf-8'


def _header(
  path: Path, sample: bytes, encoding: str, wanted: Sequence[str]
) -> tuple[list[str], int, str]:
  """Returns the column names, the number of header lines, and the separator."""
  # The sample may end within a character.
  text = codecs.getincrementaldecoder(encoding)('replace').decode(sample)
  text = text.lstrip('\ufeff')
  best: tuple[int, int] = (-1, -1)
  header: tuple[list[str], int, str] = ([], 0, ',')
  for separator in _SEPARATORS:
    rows = csv.reader(
      io.StringIO(text, newline=''), delimiter=separator, skipinitialspace=True
    )
    try:
      # A first line such as sep=; gives Excel the separator.
      names = next((x for x in rows if x and not x[0].startswith('sep=')), [])
    except csv.Error:
      continue
    score = len({column_names.column_of(name) for name in names} & set(wanted))
    if (score, len(names)) > best:
      best = score, len(names)
      header = names, rows.line_num, separator
  names, num_lines, separator = header
  if not names:
    what = (
      'does not begin with names of columns' if text.strip() else 'is empty'
    )
    raise DataError(f'{path} {what}: add a first line that names the columns')
  if any('\ufffd' in name for name in names):
    raise raw_lines.not_utf8(path, f'{path}, line 1 is')
  return names, num_lines, separator


def _check_lengths(path: Path, columns: dict[str, pa.ChunkedArray]) -> None:
  for column in columns.values():
    for chunk in column.chunks:
      if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary
      if (
        _compute.max(_compute.binary_length(chunk)).as_py() or 0
      ) > MAX_LINE_BYTES:
        raise _too_long(path)


def _too_long(path: Path) -> DataError:
  return DataError(
    f'{path} has a row of more than {MAX_LINE_BYTES} bytes ('
    f'{MAX_LINE_BYTES // 2**20} MB), the most that is read: shorten its text; '
    'if no text is that long, a quotation mark is not closed'
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
