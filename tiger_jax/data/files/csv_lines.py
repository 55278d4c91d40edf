"""Reads the bytes of a CSV file in parts that end with a line."""

import codecs
from pathlib import Path
from typing import Any

from tiger_jax.data.files import file_kinds

_READ_BYTES = 2**20
_BOM = codecs.BOM_UTF8


class CsvLines:
  """The content of a CSV file as UTF-8, without a byte order mark.

  Attributes:
    position: The number of bytes that were taken, without repeats.
  """

  def __init__(self, path: Path, raw: Any, encoding: str, sample: bytes):
    """Reads from `raw`, a binary file; `sample` is its beginning."""
    self.position = 0
    self._path = path
    self._raw = raw
    self._decoder = None
    if encoding != 'utf-8':
      self._decoder = codecs.getincrementaldecoder(encoding)()
    # Old Macintosh programs end a line with a carriage return.
    self._old_ends = b'\r' in sample and b'\n' not in sample
    self._ended = False
    self._unread = b''
    # The bytes from the mark to the start were taken. `_unread` keeps them for
    # `rewind`.
    self._mark = self._start = 0
    self._fill(len(_BOM))
    if self._unread.startswith(_BOM):
      self._start = len(_BOM)

  def mark(self) -> None:
    """Remembers the position, for `rewind`."""
    self._mark = self._start

  def rewind(self, size: int) -> None:
    """Returns to the position `size` bytes after the mark."""
    self.position += self._mark + size - self._start
    self._start = self._mark + size

  def after_mark(self, start: int, stop: int) -> bytes:
    """Returns taken bytes; `start` and `stop` count from the mark."""
    return self._unread[self._mark + start : self._mark + stop]

  def take_lines(self, size: int) -> bytes:
    """Returns whole lines of about `size` bytes; b'' if a line is longer.

    Also returns b'' at the end of the file.
    """
    self._fill(size)
    end = len(self._unread)
    if not self._ended or end - self._start > size:
      end = self._unread.rfind(b'\n', self._start, self._start + size) + 1
    return self._take(max(end, self._start))

  def take_line(self, limit: int) -> bytes:
    """Returns the next line, or its first `limit` bytes."""
    size = _READ_BYTES
    while True:
      end = self._unread.find(b'\n', self._start, self._start + limit) + 1
      if end:
        return self._take(end)
      if self._ended or size >= 4 * limit:
        return self._take(min(len(self._unread), self._start + limit))
      self._fill(min(size, limit))
      size *= 4

  def _take(self, end: int) -> bytes:
    taken = self._unread[self._start : end]
    self._start = end
    self.position += len(taken)
    return taken

  def _fill(self, size: int) -> None:
    """Reads until `size` bytes are unread, or to the end of the file."""
    missing = size - (len(self._unread) - self._start)
    if self._ended or missing <= 0:
      return
    parts = [self._unread[self._mark :]]
    while missing > 0 and not self._ended:
      data = self._raw.read(_READ_BYTES)
      self._ended = not data
      parts.append(self._recoded(data))
      missing -= len(parts[-1])
    self._unread = b''.join(parts)
    self._start -= self._mark
    self._mark = 0

  def _recoded(self, data: bytes) -> bytes:
    if self._decoder is not None:
      try:
        text = self._decoder.decode(data, final=self._ended)
        data = text.lstrip('\ufeff').encode()
      except UnicodeError as error:
        raise file_kinds.not_utf16(self._path) from error
    return data.replace(b'\r', b'\n') if self._old_ends else data
