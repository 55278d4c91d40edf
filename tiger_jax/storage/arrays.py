"""Reads array files that may come from another machine."""

from collections.abc import Iterator
import contextlib
import io
from pathlib import Path
import struct
import tokenize
from typing import Any, BinaryIO
import zipfile
import zlib

import numpy as np

_LARGEST_HEADER = 10_000


def read_arrays(source: Path | bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of a `.npz` that `numpy.savez` wrote.

  The arrays take no more memory than the size of the file: the size that a
  header states is compared with the size of the file first.

  Args:
    source: The file, or its content.

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
  """Writes a `.npy`.

  Raises:
    OSError: The file cannot be written, with the number of the cause, which
      `numpy.save` drops.
  """
  try:
    with path.open('wb') as file:
      np.lib.format.write_array(_Sink(file), array, allow_pickle=False)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error


class _Sink:
  """A file that NumPy does not recognize, so that Python writes to it."""

  def __init__(self, file: BinaryIO):
    self.write = file.write


def mapped(path: Path) -> np.ndarray:
  """Returns the array of a `.npy`, memory-mapped: only used parts are read.

  Args:
    path: The file.

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
  """Turns the errors of NumPy for a bad header or archive into ValueErrors."""
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
  """Raises ValueError if the size in a header is not the size of the data."""
  version = np.lib.format.read_magic(file)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'{member.filename} has an unknown format')
  read_header = (
    np.lib.format.read_array_header_1_0
    if version == (1, 0)
    else np.lib.format.read_array_header_2_0
  )
  shape, _, dtype = read_header(file, max_header_size=_LARGEST_HEADER)
  # Python's integers do not overflow.
  num_bytes = dtype.itemsize
  for dim in shape:
    num_bytes *= dim
  if dtype.hasobject or num_bytes != member.file_size - file.tell():
    raise ValueError(f'{member.filename} is not as large as its header says')
