"""Reads and writes small files.

A file may come from another machine, so a read limits the size and accepts only
regular files. A write replaces the whole file in one step, waits until it is on
disk, and never follows a link.
"""

from collections.abc import Iterator
import contextlib
import errno
import json
import os
from pathlib import Path
import stat
from typing import Any, BinaryIO

from tiger_jax.errors import DataError, one_line

# The errors of reading a damaged file, or of using its content.
INVALID = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  MemoryError,
  RuntimeError,
  TypeError,
  ValueError,
)
# The errors of `fsync` on a folder if the file system (such as SMB) lacks it.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
# The default limit, enough for every file that does not list items.
SMALL = 64 * 2**20


@contextlib.contextmanager
def explained(
  failure: str,
  remedy: str,
  kinds: tuple[type[Exception], ...] = (*INVALID, OSError),
) -> Iterator[None]:
  """Converts errors about a damaged file to a DataError of one line."""
  try:
    yield
  except kinds as error:
    reason = isinstance(error, OSError) and error.strerror or str(error)
    reason = one_line(reason)[:200] or type(error).__name__
    raise DataError(f'{failure} ({reason}): {remedy}') from error


def write(path: Path, data: bytes) -> None:
  """Replaces the content of a file, see `replacing`."""
  with replacing(path) as file:
    file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
  """Opens a file that replaces `path` at the end of the `with` statement.

  A reader sees either the old or the new content. A link of this name is
  replaced, not followed.

  Raises:
    OSError: The folder is missing, not writable, or full. The old file remains.
  """
  partial = path.with_name(f'{path.name}.partial')
  # A link of this name would lead the write out of the folder.
  partial.unlink(missing_ok=True)
  flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
  try:
    with open(os.open(partial, flags, 0o666), 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)
  except BaseException as error:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    if not isinstance(error, OSError):
      raise
    # Adds the path, which the error of a full disk lacks.
    raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, value: Any) -> None:
  """Replaces a file with indented JSON, see `write`."""
  write(path, (json.dumps(value, indent=2) + '\n').encode())


def open_to_append(path: Path) -> BinaryIO:
  """Opens a file for appending, and creates it if it is missing.

  Raises:
    OSError: The path is a link, a device or a pipe, or it cannot be written.
  """
  flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  try:
    number = os.open(path, flags, 0o666)
  except OSError as error:
    if path.is_symlink():
      raise OSError(errno.ELOOP, 'It is a link', str(path)) from error
    raise
  file = open(number, 'ab')
  if not stat.S_ISREG(os.fstat(number).st_mode):
    file.close()
    raise OSError(errno.EINVAL, 'Not a regular file', str(path))
  return file


def read(path: Path, max_bytes: int = SMALL) -> bytes:
  """Returns the content of a regular file.

  Raises:
    OSError: The file is missing or cannot be read.
    ValueError: The file is too large, or it is a device or a pipe.
  """
  with open_regular(path, max_bytes) as file:
    # `file.read(n)` allocates n bytes, so the size of the file limits n.
    size = os.fstat(file.fileno()).st_size
    data = file.read(min(max_bytes, size) + 1)
  _check_size(path, len(data), max_bytes)
  return data


def open_regular(path: Path, max_bytes: int) -> BinaryIO:
  """Opens a regular file for reading; raises the errors of `read`."""
  # O_NONBLOCK, because opening a pipe without a writer would block.
  file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb')
  try:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
      raise ValueError(f'{path.name} is not a regular file')
    _check_size(path, status.st_size, max_bytes)
  except BaseException:
    file.close()
    raise
  return file


def _check_size(path: Path, size: int, max_bytes: int) -> None:
  if size > max_bytes:
    raise ValueError(f'{path.name} is larger than {max_bytes} bytes')


def read_json(path: Path, max_bytes: int = SMALL) -> Any:
  """Returns the value of a JSON file; raises ValueError if it is not JSON."""
  try:
    return json.loads(read(path, max_bytes))
  except RecursionError as error:
    raise ValueError(f'{path.name} is nested too deeply') from error


def sync(path: Path) -> None:
  """Waits until the content of a file or a folder is on disk.

  For a folder, it does nothing on file systems that do not support this.
  """
  number = os.open(path, os.O_RDONLY)
  try:
    os.fsync(number)
  except OSError as error:
    if not path.is_dir() or error.errno not in _NO_SYNC:
      raise
  finally:
    os.close(number)
