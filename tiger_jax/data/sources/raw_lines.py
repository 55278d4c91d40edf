"""Reads files with one record per line.

A record is a JSON object, or a Python dict as in the Amazon metadata of 2014.
Any other line is an error, and the message gives its number.
"""

import ast
from collections.abc import Iterator
import io
import json
import math
from pathlib import Path
from typing import Any, NamedTuple
import warnings

from tiger_jax.data import item_text
from tiger_jax.data.sources import archives, byte_streams, file_kinds
from tiger_jax.data.sources.bad_rows import BadRow
from tiger_jax.data.sources.row_counts import RowCounts

MAX_LINE_BYTES = 16 * 2**20
# Parsing a literal takes 480 bytes of memory for each character.
MAX_LITERAL_BYTES = 2**19
# `json.loads` does more work for each line before it calls this function.
_scan: Any = getattr(json.JSONDecoder(), 'scan_once')  # noqa: B009
_YEAR_10000 = 253_402_300_800  # Seconds since 1970.


class Record(NamedTuple):
  """A record; `where` names its file and line for error messages."""

  values: dict[Any, Any]
  where: str


def read(path: Path, counts: RowCounts | None = None) -> Iterator[Record]:
  """Yields the records of a file without reading all of it into memory.

  The text is UTF-8, or UTF-16 with a byte order mark. A `.gz` or `.zst` file is
  decompressed. Blank lines are skipped. Damage at the end of a compressed file
  is detected only after all earlier records are yielded. The caller must
  therefore read all records before writing any results.

  Args:
    path: The file.
    counts: Counts the lines that are not records, which are then skipped.
      If it is None, the first such line raises an error. The caller counts the
      records that it keeps.

  Raises:
    DataError: The file is missing or damaged, or its content does not fit its
      suffix, or a line is not a record.
  """
  with byte_streams.opened(path) as raw, _recoded(path, raw) as lines:
    yield from _parse_lines(path, lines, counts)


def read_member(
  member: archives.Member, counts: RowCounts | None = None
) -> Iterator[Record]:
  """Yields the records of a file that may be in an archive, see `read`."""
  path = Path(str(member))  # Names both the archive and the file in it.
  with archives.opened(member) as raw:
    yield from _parse_lines(path, _recoded(path, raw), counts)


def required_text(record: Record, key: str) -> str:
  """Returns the value of a text field.

  Raises:
    BadRow: The field is missing or empty, is not text, or has control
      characters.
  """
  value = record.values.get(key)
  if isinstance(value, str) and item_text.is_clean(value):
    return value
  raise _wrong_field(record, key, 'text without control characters')


def required_seconds(record: Record, key: str) -> int:
  """Returns the value of a field with whole seconds since 1970.

  Raises:
    BadRow: The field is missing, is not an integer, or is not in the years
      1970 to 9999.
  """
  value = record.values.get(key)
  if type(value) is not int or not 0 <= value < _YEAR_10000:
    raise _wrong_field(record, key, 'an integer, the seconds since 1970')
  return value


def rating(record: Record, key: str) -> float:
  """Returns the value of a rating field; NaN if it is not a rating."""
  value = record.values.get(key)
  if isinstance(value, bool) or not isinstance(value, int | float):
    return math.nan
  try:
    return float(value)
  except OverflowError:
    return math.nan


def _wrong_field(record: Record, key: str, requirement: str) -> BadRow:
  value, problem = record.values.get(key), 'is missing'
  if key in record.values:
    problem = f'is {item_text.shown(value)}'
  return BadRow(
    f'{record.where}: field {key!r} {problem}: it must be {requirement}; '
    'correct or remove the line',
    reason=f'{key} is not {requirement}',
    where=record.where,
    sample=value,
  )


def _recoded(path: Path, raw: Any) -> Any:
  """Returns the lines of a file: text if it is UTF-16, bytes otherwise."""
  encoding = file_kinds.encoding(path, raw.peek(16)[:16])
  if encoding == 'utf-8':
    return raw
  return io.TextIOWrapper(raw, encoding, newline='\n')


def _parse_lines(
  path: Path, lines: Any, counts: RowCounts | None
) -> Iterator[Record]:
  name, number = str(path), 0
  while line := _next_line(path, lines):
    number += 1
    where = f'{name}, line {number}'
    if (values := _json_object(line)) is not None:
      yield Record(values, where)
      continue
    try:
      text = _text(path, line, where)
      record = Record(_parse(text, where), where) if text else None
    except BadRow as error:
      if counts is None:
        raise
      counts.drop(error.reason, Path(error.where).name, line[:80].strip())
      _skip_line(path, lines, line)
      continue
    if record is not None:
      yield record


def _json_object(line: str | bytes) -> dict[Any, Any] | None:
  """Returns the JSON object in a line; None if the line has another form.

  Most lines are JSON objects, so this function limits the speed of a reader.
  """
  if len(line) > MAX_LINE_BYTES:
    return None
  try:
    text = (line if isinstance(line, str) else line.decode('utf-8')).strip()
    value, end = _scan(text, 0)
  except (StopIteration, ValueError, RecursionError):
    return None
  return value if end == len(text) and isinstance(value, dict) else None


def _text(path: Path, line: str | bytes, where: str) -> str:
  if len(line) > MAX_LINE_BYTES:
    raise BadRow(
      f'{where} is longer than {MAX_LINE_BYTES} bytes: it must hold one record',
      'too long', where, line[:80],
    )  # fmt: skip
  try:
    text = line if isinstance(line, str) else line.decode('utf-8')
  except UnicodeDecodeError as error:
    message = str(file_kinds.not_utf8(path, f'{where} is'))
    raise BadRow(message, 'not UTF-8', where, line[:80]) from error
  # Windows editors begin a file with a byte order mark.
  return text.lstrip('\ufeff').strip()


def _next_line(path: Path, lines: Any) -> str | bytes:
  try:
    return lines.readline(MAX_LINE_BYTES + 1)
  except UnicodeDecodeError as error:
    raise file_kinds.not_utf16(path) from error


def _skip_line(path: Path, lines: Any, part: str | bytes) -> None:
  """Reads the rest of a line that is longer than the limit."""
  while len(part) > MAX_LINE_BYTES and part[-1:] not in ('\n', b'\n'):
    part = _next_line(path, lines)


def _parse(text: str, where: str) -> dict[Any, Any]:
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    if len(text) > MAX_LITERAL_BYTES:
      raise BadRow(
        f'{where} is not a record: it is not JSON, and for a Python literal it '
        f'is too long (more than {MAX_LITERAL_BYTES} characters); correct it '
        'or write it as JSON',
        'not a record', where, text[:80],
      ) from None  # fmt: skip
    value = _parse_literal(text)
  if not isinstance(value, dict):
    raise BadRow(
      f'{where} is not a record (a JSON object or a Python dict on one line): '
      'correct or remove it',
      'not a record', where, text[:80],
    )  # fmt: skip
  return value


def _parse_literal(text: str) -> Any:
  """Returns the value of a Python literal, or None if the text is not one."""
  with warnings.catch_warnings():
    # Ignores warnings about invalid escape sequences in the text.
    warnings.simplefilter('ignore')
    try:
      return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
      return None
