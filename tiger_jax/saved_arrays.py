"""Named arrays and what there is to say about them, as two files in a folder.

`NAME.npz` holds the arrays and `NAME.json` the rest, with the digest of the
first. Both are data: nothing in them is imported or run.
"""

import hashlib
import io
import math
import os
import pathlib
import struct
from typing import Any
import zipfile

import numpy as np

from tiger_jax.errors import DataError
from tiger_jax.storage import files

# Arrays of a few hundred million items would fit.
_LARGEST = 16 * 2**30

_REMEDY = 'run the semantic_ids stage'

# What reading a damaged file, or making something of it, may raise.
DAMAGE = (
  OSError,
  ValueError,
  KeyError,
  TypeError,
  zipfile.BadZipFile,
)


def save(
  folder: str | os.PathLike[str],
  name: str,
  arrays: dict[str, np.ndarray],
  about: dict[str, Any],
) -> None:
  """Writes the two files, so that they are never read half written.

  Args:
    folder: Is made where it is missing.
    name: What to call the files.
    arrays: By name.
    about: Any JSON.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **arrays)
  data = buffer.getvalue()
  about = about | {'sha256': hashlib.sha256(data).hexdigest()}
  files.write(folder / f'{name}.npz', data)
  files.write_json(folder / f'{name}.json', about)


def load(
  folder: str | os.PathLike[str],
  name: str,
  remedy: str = _REMEDY,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads what `save` wrote.

  Args:
    folder: Where the files are.
    name: What they are called.
    remedy: What to do about a missing file.

  Returns:
    The arrays, and what was said about them.

  Raises:
    DataError: A file is missing.
    Exception: One of `DAMAGE`, where a file is damaged.
  """
  folder = pathlib.Path(folder)
  try:
    about = files.read_json(folder / f'{name}.json')
    data = files.read(folder / f'{name}.npz', _LARGEST)
  except FileNotFoundError as e:
    raise DataError(f'{e.filename} is missing: {remedy}') from e
  if hashlib.sha256(data).hexdigest() != about['sha256']:
    raise ValueError(f'{name}.npz is not the file that was saved')
  return read_arrays(data), about


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
  """Returns the arrays of a file that `np.savez` wrote.

  Takes no more memory than the file has bytes, whatever its headers say.

  Raises:
    Exception: One of `DAMAGE`, where the file is damaged.
  """
  try:
    _refuse_false_headers(data)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      return dict(arrays)
  # A crafted zip file or header may raise these as well.
  except (EOFError, MemoryError, RuntimeError, struct.error) as error:
    raise ValueError(str(error) or type(error).__name__) from error


def _refuse_false_headers(data: bytes) -> None:
  """Raises ValueError where arrays would be larger than the file."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    for member in archive.infolist():
      name = member.filename
      if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f'{name} is compressed')
      with archive.open(member) as opened:
        if np.lib.format.read_magic(opened) != (1, 0):
          raise ValueError(f'{name} has another version than is written')
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        if math.prod(shape) * dtype.itemsize > member.file_size:
          raise ValueError(f'{name} is shorter than its header says')


def damaged(
  folder: str | os.PathLike[str],
  what: str,
  error: Exception,
  remedy: str = _REMEDY,
) -> DataError:
  """Returns what to tell the user about one of `DAMAGE`."""
  return DataError(
    f'the {what} in {folder} is damaged ({error}): delete the folder, then '
    f'{remedy}'
  )
