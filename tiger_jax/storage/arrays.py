"""Reads and writes files of arrays.

A file may come from another machine. It is treated as data: nothing in it is
imported or executed.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import io
import math
import os
from pathlib import Path
import struct
import tokenize
from typing import Any, BinaryIO
import zipfile
import zlib

import numpy as np

from tiger_jax.errors import DataError
from tiger_jax.storage import files

_LARGEST_HEADER = 10_000
_LARGEST_FILE = 2**33


def save_arrays(
  folder: str | os.PathLike[str],
  name: str,
  arrays: dict[str, np.ndarray],
  metadata: dict[str, Any],
) -> None:
  """Writes arrays to `NAME.npz`, and `metadata` with a digest to `NAME.json`.

  The folder is created if it is missing.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **arrays)
  data = buffer.getvalue()
  metadata = metadata | {'sha256': hashlib.sha256(data).hexdigest()}
  files.write(folder / f'{name}.npz', data)
  files.write_json(folder / f'{name}.json', metadata)


@contextlib.contextmanager
def saved_arrays(
  folder: str | os.PathLike[str],
  name: str,
  what: str,
  remedy: str = 'run the semantic_ids stage',
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
  """Reads the arrays and the JSON of `save_arrays`, as a context manager.

  Errors in the body of the `with` statement count as damage to the files.

  Args:
    folder: The folder of the files.
    name: The name of the files, without the suffix.
    what: The content of the files, for error messages.
    remedy: The advice to the user, for error messages.

  Raises:
    DataError: A file is missing or damaged.
  """
  folder = Path(folder)
  with files.explained(
    f'the {what} in {folder} is damaged', f'delete the folder, then {remedy}'
  ):
    try:
      metadata = files.read_json(folder / f'{name}.json')
      data = files.read(folder / f'{name}.npz', _LARGEST_FILE)
    except FileNotFoundError as error:
      raise DataError(f'{error.filename} is missing: {remedy}') from error
    if hashlib.sha256(data).hexdigest() != metadata['sha256']:
      raise ValueError(f'{name}.npz is not the file that was saved')
    yield read_arrays(data), metadata


def read_arrays(source: Path | bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of an uncompressed `.npz` file.

  The arrays need no more memory than the file has bytes: sizes in headers are
  checked before memory is allocated.

  Raises:
    OSError: The file cannot be read.
    ValueError: The file is damaged, is not a `.npz`, or holds Python objects.
  """
  arrays = {}
  with _only_value_errors(source):
    is_path = isinstance(source, Path)
    size = source.stat().st_size if is_path else len(source)
    with zipfile.ZipFile(source if is_path else io.BytesIO(source)) as archive:
      members = archive.infolist()
      if sum(member.file_size for member in members) > size:
        raise ValueError('its arrays are larger than the file')
      for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
          raise ValueError(f'{member.filename} is compressed')
        with archive.open(member) as file:
          _check_header(file, member)
        with archive.open(member) as file:
          arrays[member.filename.removesuffix('.npy')] = (
            np.lib.format.read_array(
              file, allow_pickle=False, max_header_size=_LARGEST_HEADER
            )
          )
  return arrays


def write_array(path: Path, array: np.ndarray) -> None:
  """Writes a `.npy` file. Unlike `numpy.save`, it keeps the errno of errors."""
  try:
    with path.open('wb') as file:
      np.lib.format.write_array(_Sink(file), array, allow_pickle=False)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error


class _Sink:
  """A file object that NumPy writes to by `write`, not by `ndarray.tofile`."""

  def __init__(self, file: BinaryIO):
    self.write = file.write


def mapped(path: Path) -> np.ndarray:
  """Returns the array of a `.npy` file as a memory map.

  Raises:
    OSError: The file cannot be read.
    ValueError: The file is damaged, is not a `.npy`, or holds Python objects.
  """
  with _only_value_errors(path):
    return np.lib.format.open_memmap(
      path, mode='r', max_header_size=_LARGEST_HEADER
    )


@contextlib.contextmanager
def _only_value_errors(source: Path | bytes) -> Iterator[None]:
  """Converts all errors about a bad header or archive to ValueError."""
  if isinstance(source, Path) and source.exists() and not source.is_file():
    raise ValueError(f'{source.name} is not a regular file')
  try:
    yield
  except (
    zipfile.BadZipFile, tokenize.TokenError, ArithmeticError, EOFError,
    MemoryError, RuntimeError, SyntaxError, TypeError, struct.error, zlib.error,
  ) as error:  # fmt: skip
    raise ValueError(str(error) or type(error).__name__) from error


def _check_header(file: Any, member: zipfile.ZipInfo) -> None:
  """Raises ValueError if the data do not have the size that the header says."""
  version = np.lib.format.read_magic(file)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'{member.filename} has an unknown format')
  read_header = getattr(np.lib.format, f'read_array_header_{version[0]}_0')
  shape, _, dtype = read_header(file, max_header_size=_LARGEST_HEADER)
  # Computed with Python integers, which do not overflow.
  num_bytes = math.prod(shape, start=dtype.itemsize)
  if dtype.hasobject or num_bytes != member.file_size - file.tell():
    raise ValueError(f'{member.filename} is not as large as its header says')
