"""Writes and reads `stage.json`, the record that marks a finished stage.

The file may come from another machine or another version, so every value is
checked before it is used.
"""

from contextlib import AbstractContextManager
import hashlib
import math
import os
from pathlib import Path
import re
import stat
from typing import Any, NamedTuple

import tiger_jax
from tiger_jax.errors import DataError
from tiger_jax.storage import files

NAME = 'stage.json'
# Records without a format number have format 0, which lacks `files`. Format 1
# lists no Parquet files.
FORMAT = 2

_FINGERPRINT = re.compile('[0-9a-f]{64}')
# The files that later stages read. Pictures and logs are not listed, because a
# missing one must not make the stage run again. Checkpoints have a manifest of
# their own.
_SUFFIXES = ('.json', '.npy', '.npz', '.parquet')


class Artifact(NamedTuple):
  """The folder of a finished stage, with its record.

  Attributes:
    folder: The folder.
    fingerprint: The sha256 of all inputs of the stage.
    seconds: The run time of the stage, including interrupted calls.
    metadata: Recorded JSON, such as the config of the run.
  """

  folder: Path
  fingerprint: str
  seconds: float
  metadata: dict[str, Any]


def exists(folder: Path) -> bool:
  """Returns whether a folder holds a finished stage, even a damaged one."""
  return (folder / NAME).exists()


def write(
  folder: Path, fingerprint: str, seconds: float, metadata: dict[str, Any]
) -> None:
  """Waits until the files of a stage are on disk, and writes its record."""
  digests = {}
  for path in sorted(folder.iterdir()):
    if path.suffix in _SUFFIXES and path.name != NAME and path.is_file():
      files.sync(path)
      digests[path.name] = [path.stat().st_size, _sha256(path)]
  record = {
    'format': FORMAT,
    'fingerprint': fingerprint,
    'seconds': seconds,
    'files': digests,
    'about': metadata,
  }
  files.write_json(folder / NAME, record)


def read(folder: Path, *, thorough: bool = False) -> Artifact:
  """Reads the record of a finished stage, and checks the files in its list.

  Args:
    folder: The folder of the stage.
    thorough: Whether to compare the sha256 of the files, not only their sizes.

  Raises:
    OSError: The record is missing or cannot be read.
    DataError: The record or a file is damaged, or a newer version wrote it.
  """
  path = folder / NAME
  with damage(path, files.INVALID):
    record = files.read_json(path)
    if not isinstance(record, dict):
      raise TypeError('it is not an object')
    _refuse_newer(path, record)
    artifact, digests = _parse(folder, record)
  for name, (size, digest) in digests.items():
    with damage(folder / name):
      _check_file(folder / name, size, digest if thorough else None)
  return artifact


def _refuse_newer(path: Path, record: dict[str, Any]) -> None:
  number = record.get('format', 0)
  if type(number) is not int or number < 0:
    raise ValueError('the format is not a number')
  if number > FORMAT:
    raise DataError(
      f'{path} has format {number}, written by '
      f'{writer(record.get("about"))}; this is version '
      f'{tiger_jax.__version__}, which reads up to format {FORMAT}: update '
      'tiger_jax, or choose another --workdir'
    )


def _parse(
  folder: Path, record: dict[str, Any]
) -> tuple[Artifact, dict[str, tuple[int, str]]]:
  fingerprint, metadata = record['fingerprint'], record['about']
  if not isinstance(metadata, dict):
    raise TypeError('about is not an object')
  # Checked, because it becomes part of the names of folders.
  if not _is_sha256(fingerprint):
    raise ValueError('the fingerprint is not a sha256')
  seconds = record['seconds']
  if type(seconds) not in (int, float) or not 0 <= float(seconds) < math.inf:
    raise ValueError('the seconds are not a number')
  for section in ('config', 'environment'):
    if not isinstance(metadata.get(section, {}), dict):
      raise TypeError(f'the {section} is not an object')
  digests = {}
  for name, (size, digest) in record.get('files', {}).items():
    is_plain = Path(name).name == name and Path(name).suffix in _SUFFIXES
    if not is_plain or type(size) is not int:
      raise ValueError('the name or the size of a file is not valid')
    if not _is_sha256(digest):
      raise ValueError('a digest is not a sha256')
    digests[name] = (size, digest)
  return Artifact(folder, fingerprint, float(seconds), metadata), digests


def writer(metadata: Any) -> str:
  """Returns the version that wrote a record, for messages.

  `metadata` is the field `about` of the record.
  """
  try:
    version = metadata['environment']['tiger_jax']
    if re.fullmatch(r'[\w.+-]{1,40}', version):
      return f'version {version}'
  except (LookupError, TypeError):
    pass
  return 'an unknown version'


def _check_file(path: Path, size: int, digest: str | None) -> None:
  """Raises an error if a file differs from what was written."""
  status = path.stat()
  if not stat.S_ISREG(status.st_mode):
    raise ValueError('it is not a regular file')
  if status.st_size != size:
    raise ValueError(f'it has {status.st_size} bytes instead of {size}')
  if digest and _sha256(path) != digest:
    raise ValueError('its content differs from what was written')


def _sha256(path: Path) -> str:
  with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _is_sha256(value: Any) -> bool:
  return isinstance(value, str) and bool(_FINGERPRINT.fullmatch(value))


def damage(path: Path, *kinds: Any) -> AbstractContextManager[None]:
  """Converts errors about a damaged file of a stage to a DataError."""
  return files.explained(
    f'{path} is damaged', f'remove {path.parent} and run again', *kinds
  )


def read_object(path: Path) -> dict[str, Any]:
  """Returns the JSON object in a file of a stage, or raises DataError."""
  with damage(path):
    value = files.read_json(path)
    if not isinstance(value, dict):
      raise ValueError('it is not an object')
  return value
