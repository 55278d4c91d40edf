"""Writes and reads the files of a bundle, and their manifest.

A bundle may be untrusted. Each file is compared with its sha256 before use.
Only files with known names are used. Nothing is imported or unpickled.
"""

from collections.abc import Iterator, Mapping
import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import stat
from typing import Any

import numpy as np
import safetensors.numpy

from tiger_jax.errors import DataError, TigerError, UsageError
from tiger_jax.serving.arguments import shown
from tiger_jax.storage import files

MANIFEST = 'manifest.json'
FORMAT = 1
_MAX_MANIFEST = 2**20
# No path separator, and no leading dot.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')
_SHA256 = re.compile('[0-9a-f]{64}')
_REMEDY = 'save or download the bundle again'


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
  """Writes a bundle. The folder appears once all of its files are on disk.

  Args:
    folder: The folder of the bundle, which must be empty or missing.
    contents: The content of each file by name, without the manifest.

  Raises:
    UsageError: The folder is not empty, or cannot be written.
  """
  entries = {
    name: {'size': len(data), 'sha256': hashlib.sha256(data).hexdigest()}
    for name, data in sorted(contents.items())
  }
  partial = folder.with_name(f'{folder.name}.partial')
  try:
    if folder.is_symlink() or (folder.exists() and not _is_empty(folder)):
      raise UsageError(f'{folder} is not an empty folder: name a new folder')
    partial.mkdir(parents=True)
    try:
      for name, data in contents.items():
        files.write(partial / name, data)
      manifest = {'format': FORMAT, 'files': entries}
      files.write_json(partial / MANIFEST, manifest)
      # Renaming replaces an empty folder.
      partial.rename(folder)
    except BaseException:
      shutil.rmtree(partial, ignore_errors=True)
      raise
    files.sync(folder.parent)
  except FileExistsError as error:
    raise UsageError(
      f'{partial} is left from an interrupted call: remove it'
    ) from error
  except OSError as error:
    raise UsageError(
      f'the bundle cannot be written to {folder} ({error.strerror}): name '
      'another folder'
    ) from error


def read(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
  """Reads the files of a bundle after comparing all of them to the manifest.

  Args:
    folder: The folder of the bundle.
    names: The names of the files to return, if the manifest lists them. Other
      files in the manifest are only checked. Files that the manifest does not
      list are ignored.

  Raises:
    DataError: A file is missing, damaged or a link, or the manifest is not
      valid or has an unknown format. The message names the file.
  """
  if not folder.is_dir():
    raise DataError(f'there is no folder {folder}: name the folder of a bundle')
  if not (folder / MANIFEST).exists() and (folder / 'train').is_dir():
    raise DataError(
      f'{folder} is the folder of a run, and not a bundle: load it with '
      'from_workdir'
    )
  contents = {}
  for name, (size, digest) in _read_manifest(folder / MANIFEST).items():
    with damage(folder / name):
      data = _read_file(folder / name, size)
      if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError('its content differs from what was written')
    if name in names:
      contents[name] = data
  return contents


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
  """Converts errors about the content of a file to a one-line DataError."""
  with files.explained(f'{path} is damaged', _REMEDY):
    try:
      yield
    # The messages of these errors do not name the file.
    except (TigerError, safetensors.SafetensorError) as error:
      raise ValueError(str(error)) from error


def pack(arrays: Mapping[str, Any]) -> bytes:
  """Returns the safetensors file of arrays."""
  return safetensors.numpy.save(
    {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  )


def unpack(data: bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of a safetensors file."""
  return safetensors.numpy.load(data)


def _read_manifest(path: Path) -> dict[str, tuple[int, str]]:
  """Returns the size and the sha256 of each file of a bundle."""
  with damage(path):
    manifest = json.loads(_read_file(path))
    if not isinstance(manifest, dict):
      raise ValueError('it is not an object')
    number = manifest['format']
    if type(number) is not int:
      raise ValueError('the format is not a number')
  if number != FORMAT:
    raise DataError(
      f'{path} has format {shown(number)}, and this version reads format '
      f'{FORMAT}: use the version of tiger_jax that saved the bundle'
    )
  with damage(path):
    entries = {}
    for name, entry in manifest['files'].items():
      if not _NAME.fullmatch(name):
        raise ValueError(f'the file name {shown(name)} is not allowed')
      size, digest = entry['size'], entry['sha256']
      if type(size) is not int or size < 0 or not _SHA256.fullmatch(digest):
        raise ValueError(f'the size or the sha256 of {name} is not valid')
      entries[name] = size, digest
  return entries


def _read_file(path: Path, size: int | None = None) -> bytes:
  """Returns the content of a file that is not a link.

  Args:
    path: The file.
    size: The required size of the file; None allows any size up to 1 MiB.
  """
  try:
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
  except OSError as error:
    if error.errno == errno.ELOOP:
      raise ValueError('it is a link') from error
    raise
  with open(number, 'rb') as file:
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
      raise ValueError('it is not a regular file')
    if size is None and status.st_size > _MAX_MANIFEST:
      raise ValueError(f'it is larger than {_MAX_MANIFEST} bytes')
    if size is not None and status.st_size != size:
      raise ValueError(f'it has {status.st_size} bytes instead of {size}')
    return file.read(status.st_size)


def _is_empty(folder: Path) -> bool:
  return folder.is_dir() and not any(folder.iterdir())
