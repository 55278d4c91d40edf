"""Opens the official files of a dataset, also inside zip and tar archives.

Nothing is extracted to disk, so a path in an archive cannot name a file outside
the archive.
"""

from collections.abc import Iterator
import contextlib
import io
import lzma
from pathlib import Path, PurePosixPath
import tarfile
from typing import NamedTuple, cast
import zipfile
import zlib

from tiger_jax.data.sources import byte_streams
from tiger_jax.errors import DataError

# The largest compression ratio of a member. Text does not reach this ratio,
# but deflate can reach 1,032.
_MOST_COMPRESSED = 200
_MOST_MEMBERS = 100_000


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
    if not member.name:
      with byte_streams.opened(path) as file:
        yield file
    elif path.suffix == '.zip':
      with _in_zip(member) as file:
        yield file
    else:
      with _in_tar(member) as file:
        yield file
  except FileNotFoundError as error:
    raise DataError(
      f'{path} does not exist: put the file there or name another folder'
    ) from error
  except (
    EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError
  ) as error:  # fmt: skip
    # tarfile lists the failures of all compressions, one per line.
    reason = str(error).partition('\n')[0]
    raise DataError(
      f'{path} is damaged ({reason}): download or copy it again'
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
    info = infos[_only(member, list(infos))]
    if info.flag_bits & 1:
      raise DataError(f'{member} is encrypted: use the official archive')
    if info.file_size > 2**20 + _MOST_COMPRESSED * info.compress_size:
      raise DataError(
        f'{member} expands to {info.file_size:,} bytes, more than '
        f'{_MOST_COMPRESSED} times its size in the archive: use the official '
        'archive'
      )
    try:
      file = archive.open(info)
    except NotImplementedError as error:
      raise DataError(
        f'{member} has a compression that cannot be read ({error}): extract '
        'the archive'
      ) from error
    with file:
      yield cast(io.BufferedIOBase, file)


@contextlib.contextmanager
def _in_tar(member: Member) -> Iterator[io.BufferedIOBase]:
  with tarfile.open(member.path) as archive:
    infos = {}
    for number, info in enumerate(archive):
      if number == _MOST_MEMBERS:
        raise DataError(
          f'{member.path} holds more than {_MOST_MEMBERS:,} files: use the '
          'official archive'
        )
      if info.isreg():
        infos[info.name] = info
    # Reads to the end, because gzip checks its checksum only there.
    while archive.fileobj.read(2**16):  # type: ignore[union-attr]
      pass
    file = archive.extractfile(infos[_only(member, list(infos))])
    assert file is not None  # None only for members that are not files.
    with file:
      yield cast(io.BufferedIOBase, file)


def _only(member: Member, names: list[str]) -> str:
  """Returns the only name in the archive with the file name of the member."""
  found = [
    name
    for name in names
    if PurePosixPath(name).name == member.name
    and not name.startswith('__MACOSX/')
  ]
  if len(found) != 1:
    raise DataError(
      f'{member.path} holds {len(found)} files named {member.name}, not one: '
      'use the official archive'
    )
  return found[0]
