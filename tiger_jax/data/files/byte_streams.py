"""Opens files, and decompresses those that end with `.gz` or `.zst`."""

from collections.abc import Iterator
import contextlib
import gzip
import io
from pathlib import Path
import stat
from typing import Any
import zlib

import pyarrow as pa
from tqdm import tqdm

from tiger_jax.errors import DataError

COMPRESSIONS = ('.gz', '.zst')
_MAGIC = {'.gz': b'\x1f\x8b', '.zst': b'\x28\xb5\x2f\xfd'}
_NAMES = {'.gz': 'gzip', '.zst': 'zstd'}
# The largest number of consecutive blank bytes in a compressed file. A file of
# a few kilobytes can hold a gigabyte of line ends.
MAX_BLANK_BYTES = 2**24
_BLOCK_BYTES = 2**20


def suffix(path: Path) -> str:
  """Returns the suffix of a file without that of its compression."""
  return Path(uncompressed(path)).suffix


def uncompressed(path: Path) -> str:
  """Returns the name of a file without the suffix of its compression."""
  return path.stem if path.suffix in COMPRESSIONS else path.name


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
  """Opens a file for reading, and decompresses it if necessary.

  Damage is detected only when the damaged part is read. For example, a
  truncated file raises an error only at its end. The caller must therefore read
  the whole file before it writes any results.

  Raises:
    DataError: The file is missing or damaged, or its compression does not match
      its suffix. The error may also be raised inside the `with` block.
  """
  try:
    refuse_special(path)
    with path.open('rb') as raw:
      if path.suffix not in COMPRESSIONS:
        yield raw
        return
      _check_magic(path, raw)
      with _progress(path, raw) as counted:
        yield decompressed(path, counted, path.suffix)
  except FileNotFoundError as error:
    raise DataError(
      f'{path} does not exist: put the file there or name another folder'
    ) from error
  except OSError as error:
    raise DataError(
      f'{path} cannot be read ({error.strerror}): check that it is a file '
      'and that you may read it'
    ) from error


def refuse_special(path: Path) -> None:
  """Raises DataError if a path is a pipe or a device.

  Opening a pipe would block until another process writes to it. Opening a
  folder fails at once.
  """
  mode = path.stat().st_mode
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    raise DataError(f'{path} is not a regular file: put a file there')


def decompressed(path: Path, raw: Any, compression: str) -> io.BufferedReader:
  """Returns the decompressed content of a binary file.

  Args:
    path: The path, for messages.
    raw: The file.
    compression: One of `COMPRESSIONS`.
  """
  stream = _Decompressed(path, raw, compression)
  return io.BufferedReader(stream, _BLOCK_BYTES)


class _Decompressed(io.RawIOBase):
  """The decompressed content of a file."""

  def __init__(self, path: Path, raw: Any, compression: str):
    self._path = path
    self._blank = 0
    self._stream: Any
    if compression == '.gz':
      self._stream = gzip.GzipFile(fileobj=raw)
    else:
      self._stream = pa.CompressedInputStream(pa.PythonFile(raw, 'r'), 'zstd')

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    try:
      data = self._stream.read(len(buffer))
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
      # Disk errors have an `errno`; errors in the content do not.
      if isinstance(error, OSError) and error.errno is not None:
        raise
      reason = ' '.join(str(error).split())[:100]
      raise DataError(
        f'{self._path} is damaged ({reason}): download or copy it again'
      ) from error
    self._blank = 0 if data.strip(b' \t\r\n\0') else self._blank + len(data)
    if self._blank > MAX_BLANK_BYTES:
      raise DataError(
        f'{self._path} holds more than {MAX_BLANK_BYTES} consecutive bytes '
        'of blank space, which is the limit: write it again'
      )
    buffer[: len(data)] = data
    return len(data)


def _progress(path: Path, raw: io.BufferedIOBase) -> Any:
  """Returns `raw`, with a progress line if reading it takes long."""
  return tqdm.wrapattr(
    raw,
    'read',
    total=path.stat().st_size,
    desc=path.name,
    unit='B',
    unit_scale=True,
    delay=3,
    leave=False,
  )


def _check_magic(path: Path, raw: io.BufferedIOBase) -> None:
  start = raw.read(256)
  raw.seek(0)
  if start.startswith(_MAGIC[path.suffix]):
    return
  name = _NAMES[path.suffix]
  kind = f'not {name}'
  if not start:
    kind = 'empty'
  elif start.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml')):
    kind = f'a web page, not {name}'
  raise DataError(f'{path} is {kind}: delete it and download it again')
