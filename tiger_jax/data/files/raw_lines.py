"""Reads files with one record per line.

A record is a JSON object, or a Python dict as in the Amazon metadata of 2014.
Any other line is an error, and the message gives its number.
"""

import ast
from collections.abc import Iterator
import io
import json
from pathlib import Path
from typing import Any, NamedTuple
import warnings

from tiger_jax.data.files import archives, byte_streams, file_kinds
from tiger_jax.data.files.bad_rows import BadRow, BadRows

MAX_LINE_BYTES = 16 * 2**20
# Parsing a literal takes 480 bytes of memory for each character.
MAX_LITERAL_BYTES = 2**19
# `json.loads` does more work for each line before it calls this function.
_scan: Any = getattr(json.JSONDecoder(), 'scan_once')  # noqa: B009


class Record(NamedTuple):
  """A record.

  Attributes:
    values: The fields.
    file: The path of the file.
    line: The number of the line.
  """

  values: dict[Any, Any]
  file: str
  line: int

  @property
  def where(self) -> str:
    """The place of the record, for messages."""
    return f'{self.file}, line {self.line}'


def read(path: Path, bad: BadRows | None = None) -> Iterator[Record]:
  """Yields the records of a file without reading all of it into memory.

  The text is UTF-8, or UTF-16 with a byte order mark. A `.gz` or `.zst` file is
  decompressed. Blank lines are skipped. Damage at the end of a compressed file
  is detected only after all earlier records are yielded. The caller must
  therefore read all records before writing any results.

  Args:
    path: The file.
    bad: Decides what to do with lines that are not records; by default, the
      first such line raises an error. The caller counts the records that it
      keeps.

  Raises:
    DataError: The file is missing or damaged, or its content does not fit its
      suffix, or a line is not a record.
  """
  with byte_streams.opened(path) as raw, _recoded(path, raw) as lines:
    yield from _parse_lines(path, lines, bad)


def read_member(
  member: archives.Member, bad: BadRows | None = None
) -> Iterator[Record]:
  """Yields the records of a file that may be in an archive, see `read`."""
  path = Path(str(member))  # Names both the archive and the file in it.
  with archives.opened(member) as raw:
    yield from _parse_lines(path, _recoded(path, raw), bad)


def _recoded(path: Path, raw: Any) -> Any:
  """Returns the lines of a file: text if it is UTF-16, bytes otherwise."""
  encoding = file_kinds.encoding(path, raw.peek(16)[:16])
  if encoding == 'utf-8':
    return raw
  return io.TextIOWrapper(raw, encoding, newline='\n')


def _parse_lines(
  path: Path, lines: Any, bad: BadRows | None
) -> Iterator[Record]:
  bad = bad or BadRows()
  name, number = str(path), 0
  while line := _next_line(path, lines):
    number += 1
    if (values := _json_object(line)) is not None:
      yield Record(values, name, number)
      continue
    where = f'{name}, line {number}'
    try:
      text = _text(path, line, where)
      record = Record(_parse(text, where), name, number) if text else None
    except BadRow as error:
      bad.add(error)
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
      'too long', where, line[:80].strip(),
    )  # fmt: skip
  try:
    text = line if isinstance(line, str) else line.decode('utf-8')
  except UnicodeDecodeError as error:
    message = str(file_kinds.not_utf8(path, f'{where} is'))
    raise BadRow(message, 'not UTF-8', where, line[:80].strip()) from error
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
