"""Reads text files with one row per line, plain or in an archive."""

from collections.abc import Callable, Iterator
import csv
import io

from tqdm import tqdm

from tiger_jax.data.files import archives, raw_lines
from tiger_jax.errors import DataError

_BLOCK_BYTES = 2**20


def rows(
  member: archives.Member,
  split: Callable[[str], list[str]],
  encoding: str = 'utf-8',
) -> Iterator[tuple[int, list[str] | None]]:
  """Yields the number and the cells of each line that is not blank.

  The cells are None if the line is not in the encoding. The caller must read
  all rows before writing any results, because damage at the end of a file is
  detected only there.

  Args:
    member: The file.
    split: Divides a line into cells.
    encoding: The encoding of the file, a superset of ASCII.

  Raises:
    DataError: The file is missing or damaged, or a line is too long.
  """
  with archives.opened(member) as file:
    for number, line in enumerate(_lines(member, file), 1):
      try:
        text = line.decode(encoding)
      except UnicodeDecodeError:
        yield number, None
        continue
      if number == 1:
        text = text.removeprefix('\ufeff')
      if text.strip():
        yield number, split(text.rstrip('\r'))


def split_csv(line: str) -> list[str]:
  """Returns the cells of a line of CSV, or [] if it is not valid CSV."""
  if '"' not in line:
    return line.split(',')
  try:
    return next(csv.reader([line], strict=True))
  except csv.Error:
    return []


def _lines(member: archives.Member, file: io.BufferedIOBase) -> Iterator[bytes]:
  rest, number = b'', 0
  # `file` may be in an archive, so the remaining size is not known.
  with tqdm(desc=member.name or member.path.name, unit='B', unit_scale=True,
            delay=3, leave=False) as bar:  # fmt: skip
    while block := file.read(_BLOCK_BYTES):
      bar.update(len(block))
      lines = (rest + block).split(b'\n')
      rest = lines.pop()
      number += len(lines)
      yield from lines
      if len(rest) > raw_lines.MAX_LINE_BYTES:
        raise DataError(
          f'{member}, line {number + 1} is longer than '
          f'{raw_lines.MAX_LINE_BYTES} bytes: it must hold one row'
        )
  if rest:
    yield rest
