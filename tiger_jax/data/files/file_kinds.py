"""Detects the format and the encoding of a file from its first bytes."""

import codecs
from pathlib import Path

from tiger_jax.errors import DataError

_KINDS = {
  b'\x1f\x8b': ('compressed with gzip', 'decompress it first'),
  b'BZh': ('compressed with bzip2', 'decompress it first'),
  b'\xfd7zXZ\0': ('compressed with xz', 'decompress it first'),
  b'\x28\xb5\x2f\xfd': ('compressed with zstd', 'decompress it first'),
  b'PK\x03\x04': (
    'a zip archive or an Excel workbook',
    'extract it, or save its sheet as CSV',
  ),
  b'\xd0\xcf\x11\xe0': ('an Excel workbook', 'save its sheet as CSV'),
  b'SQLite format 3': ('an SQLite database', 'export its tables as CSV'),
  b'ORC': ('an ORC file', 'write it as Parquet'),
  b'Obj\x01': ('an Avro file', 'write it as Parquet'),
  b'ARROW1': ('an Arrow file', 'write it as Parquet'),
}
_UTF16 = {codecs.BOM_UTF16_LE: 'utf-16-le', codecs.BOM_UTF16_BE: 'utf-16-be'}


def check(path: Path, start: bytes) -> None:
  """Raises DataError if the first bytes of a file contradict its suffix."""
  suffix = path.suffix[1:]
  if _is_text(start):
    if suffix == 'parquet' and start:
      kind = 'jsonl' if start.lstrip().startswith(b'{') else 'csv'
      raise DataError(
        f'{path} is text, not parquet: if it is {kind}, rename it to '
        f'{path.stem}.{kind}'
      )
    return
  if suffix != 'parquet' and start.startswith(b'PAR1'):
    raise DataError(
      f'{path} is a Parquet file, not {suffix}: rename it to '
      f'{path.stem}.parquet'
    )
  for magic, (kind, remedy) in _KINDS.items():
    if start.startswith(magic):
      raise DataError(f'{path} is {kind}, not {suffix}: {remedy}')


def encoding(path: Path, start: bytes) -> str:
  """Returns the encoding of a text file: UTF-8, or UTF-16 with its byte order.

  Raises:
    DataError: The file is in UTF-32, or in UTF-16 without a byte order mark.
  """
  if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
    raise not_utf8(path, f'{path} is', 'UTF-32')
  if start[:2] in _UTF16:
    return _UTF16[start[:2]]
  # In UTF-16, every other byte of ASCII text is zero.
  for first, name in ((1, 'UTF-16LE'), (0, 'UTF-16BE')):
    if start[first:16:2] and not any(start[first:16:2]):
      raise not_utf8(path, f'{path} is', name)
  return 'utf-8'


def not_utf8(path: Path, where: str, encoding: str = 'LATIN1') -> DataError:
  """Returns an error that suggests a command to convert a file.

  `where` begins the message. `encoding` is the probable encoding of the file.
  """
  other = f'{path.stem}.utf8{path.suffix}'
  return DataError(
    f'{where} not UTF-8: convert the file, for example with: iconv -f '
    f'{encoding} -t UTF-8 {path.name} > {other}'
  )


def not_utf16(path: Path) -> DataError:
  """Returns an error about invalid UTF-16 after a byte order mark."""
  return DataError(
    f'{path} is damaged: it begins as UTF-16, but is not valid UTF-16; write '
    'it again'
  )


def _is_text(start: bytes) -> bool:
  if start.startswith(tuple(_UTF16)):
    return True
  text = codecs.getincrementaldecoder('utf-8')('replace').decode(start)
  return all(x.isprintable() or x.isspace() or x == '\ufeff' for x in text)
