"""Named arrays and what there is to say about them, as two files in a folder.

`NAME.npz` holds the arrays and `NAME.json` the rest, with the digest of the
first. Both are data: nothing in them is imported or run.
"""

import hashlib
import io
import os
import pathlib
from typing import Any

import numpy as np

from tiger_jax.errors import DataError
from tiger_jax.storage import files
from tiger_jax.storage.arrays import read_arrays

_REMEDY = 'run the semantic_ids stage'

# What reading a damaged file, or making something of it, may raise.
DAMAGE = (
  OSError,
  EOFError,
  ValueError,
  LookupError,
  TypeError,
  AttributeError,
  ArithmeticError,
  MemoryError,
  RuntimeError,
)
# The largest files that are read.
_MOST_BYTES = 2**33


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
    data = files.read(folder / f'{name}.npz', _MOST_BYTES)
  except FileNotFoundError as e:
    raise DataError(f'{e.filename} is missing: {remedy}') from e
  if hashlib.sha256(data).hexdigest() != about['sha256']:
    raise ValueError(f'{name}.npz is not the file that was saved')
  return read_arrays(data), about


def damaged(
  folder: str | os.PathLike[str],
  what: str,
  error: Exception,
  remedy: str = _REMEDY,
) -> DataError:
  """Returns what to tell the user about one of `DAMAGE`."""
  reason = ' '.join(str(error).split())[:200] or type(error).__name__
  return DataError(
    f'the {what} in {folder} is damaged ({reason}): delete the folder, then '
    f'{remedy}'
  )
