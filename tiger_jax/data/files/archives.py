"""Opens the official files of a dataset: plain, or in a zip or tar archive.

Nothing is extracted to disk, so a path in an archive cannot name a file outside
the archive.
"""

from collections.abc import Iterator
import contextlib
import io
import lzma
from pathlib import Path, PurePosixPath
import tarfile
from typing import Any, NamedTuple, cast
import zipfile
import zlib

from tiger_jax.data.files import byte_streams
from tiger_jax.errors import DataError

# The largest compression ratio of a member. Text does not reach this ratio,
# but deflate can reach 1,032.
_MOST_COMPRESSED = 200
_MOST_MEMBERS = 100_000
# Of one member of a tar archive.
_MOST_HEADER_BYTES = 2**24


class Member(NamedTuple):
  """A file, or a file in an archive.

  Attributes:
    path: The path of the file or of the archive.
    name: The file name of the member; '' if `path` is the file itself.
    is_download: Whether this program has downloaded the file.
  """

  path: Path
  name: str = ''
  is_download: bool = False

  def __str__(self) -> str:
    """Returns the path and the name, for messages."""
    return f'{self.path} ({self.name})' if self.name else str(self.path)


@contextlib.contextmanager
def opened(member: Member) -> Iterator[io.BufferedIOBase]:
  """Opens a file or a member of an archive for reading.

  Raises:
    DataError: The file is missing or damaged, or the archive does not hold the
      member. Damage may also be detected while the caller reads.
  """
  path = member.path
  try:
    byte_streams.refuse_special(path)
    if not member.name:
      with byte_streams.opened(path) as file:
        yield file
    elif path.suffix == '.zip':
      with _in_zip(member) as file:
        yield file
    else:
      with path.open('rb') as raw, _in_tar(member, raw) as file:
        yield file
  except FileNotFoundError as error:
    raise DataError(
      f'{path} does not exist: put the file there or name another folder'
    ) from error
  except (
    EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError
  ) as error:  # fmt: skip
    raise DataError(
      f'{path} is damaged ({error}): download or copy it again'
    ) from error
  except OSError as error:
    reason = error.strerror or error
    raise DataError(
      f'{path} cannot be read ({reason}): check that it is a complete file '
      'and that you may read it'
    ) from error


@contextlib.contextmanager
def _in_zip(member: Member) -> Iterator[io.BufferedIOBase]:
  with zipfile.ZipFile(member.path) as archive:
    infos = {
      info.filename: info for info in archive.infolist() if not info.is_dir()
    }
    found = [name for name in infos if _is_named(name, member.name)]
    # The archive of Yelp holds a tar archive with the files.
    tars = [name for name in infos if name.endswith('.tar')]
    if len(found or tars) != 1:
      raise _not_one(member, len(found))
    info = infos[(found or tars)[0]]
    if info.flag_bits & 1:
      raise DataError(f'{member} is encrypted: use the official archive')
    if info.file_size > 2**20 + _MOST_COMPRESSED * info.compress_size:
      raise DataError(
        f'{member} expands to {info.file_size:,} bytes, more than '
        f'{_MOST_COMPRESSED} times its size in the archive: use the official '
        'archive'
      )
    try:
      file = cast(io.BufferedIOBase, archive.open(info))
    except NotImplementedError as error:
      raise DataError(
        f'{member} has a compression that cannot be read ({error}): extract '
        'the archive'
      ) from error
    with file:
      if found:
        yield file
      else:
        with _in_tar(member, file) as inner:
          yield inner


@contextlib.contextmanager
def _in_tar(
  member: Member, raw: io.BufferedIOBase
) -> Iterator[io.BufferedIOBase]:
  """Opens a member of a tar archive, and reads the archive only once.

  The rest of the archive is read when the caller closes the member.
  """
  if cast(Any, raw).peek(2).startswith(b'\x1f\x8b'):
    raw = byte_streams.decompressed(member.path, raw, '.gz')
  forward = _Forward(member, raw)
  num_found = 0
  with tarfile.open(fileobj=cast(Any, forward), mode='r:') as tar:
    for number, info in enumerate(tar):
      if number == _MOST_MEMBERS:
        raise DataError(
          f'{member.path} holds more than {_MOST_MEMBERS:,} files: use the '
          'official archive'
        )
      if not info.isreg() or not _is_named(info.name, member.name):
        continue
      num_found += 1
      if num_found == 1:
        file = tar.extractfile(info)
        assert file is not None  # `info` is a file.
        with file:
          yield cast(io.BufferedIOBase, file)
  if num_found != 1:
    raise _not_one(member, num_found)
  # The checksum is at the end.
  while forward.read(2**20):
    pass


class _Forward:
  """A file that is read once from its beginning to its end.

  `tarfile` reads the header of a member at once, whatever size it has.
  """

  def __init__(self, member: Member, raw: Any):
    self._member = member
    self._raw = raw
    self._position = 0

  def tell(self) -> int:
    return self._position

  def seek(self, position: int) -> None:
    while self._position < position:
      if not self.read(min(position - self._position, 2**20)):
        break

  def read(self, size: int) -> bytes:
    if size > _MOST_HEADER_BYTES:
      raise DataError(
        f'{self._member.path} has a header of {size:,} bytes: use the official '
        'archive'
      )
    data = self._raw.read(size)
    self._position += len(data)
    return data


def _is_named(path: str, name: str) -> bool:
  """Returns whether a path in an archive is a file of this name."""
  return PurePosixPath(path).name == name and not path.startswith('__MACOSX/')


def _not_one(member: Member, number: int) -> DataError:
  return DataError(
    f'{member.path} holds {number} files named {member.name}, not one: use the '
    'official archive'
  )
