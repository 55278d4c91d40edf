"""Writes the ledger, which records the batch of every step of a run."""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from tiger_jax.errors import CheckpointError
from tiger_jax.storage import files

_DIGITS = 16
_NUMBER_DIGITS = 12
# Lines have a fixed size in bytes, so the offset of a step can be computed.
_LINE = _DIGITS + 1 + _NUMBER_DIGITS + 1
_LINE_WITHOUT_NUMBER = _DIGITS + 1


class Ledger:
  """A text file with one line per step: a digest and the number of the batch.

  The digest is the first digits of the sha256 of the batch. Two runs with equal
  ledgers used the same batches in the same order. Skipped batches have no line.
  Earlier versions did not write batch numbers. A ledger that begins without
  numbers continues without them.
  """

  def __init__(self, path: Path | None, step: int):
    """Opens the ledger of a run that resumes after `step`.

    Args:
      path: The file. Lines of later steps are removed, because these steps are
        repeated. With None, nothing is written, and `add` only returns digests.
      step: The number of steps done.

    Raises:
      CheckpointError: Lines of earlier steps are missing.
    """
    self._file: BinaryIO | None = None
    if path is None:
      return
    size = path.stat().st_size if path.exists() else 0
    line = _line_size(path) if step and size else _LINE
    if size < step * line:
      raise CheckpointError(
        f'{path} ends at step {size // line}, before step {step} of the '
        f'checkpoint: remove {path.parent} to train from the beginning'
      )
    path.parent.mkdir(parents=True, exist_ok=True)
    self._file = files.open_to_append(path)
    self._file.truncate(step * line)
    self._has_numbers = line == _LINE

  def add(self, stack: Any, number: int) -> list[str]:
    """Writes the lines of a stack of batches.

    Args:
      stack: Host arrays; the first axis indexes the batches.
      number: The number of the first batch. The batches are consecutive.

    Returns:
      The digest of each batch.
    """
    arrays = [np.ascontiguousarray(x) for x in jax.tree.leaves(stack)]
    digests = []
    for i in range(len(arrays[0])):
      digest = hashlib.sha256()
      for array in arrays:
        digest.update(array[i].tobytes())
      digests.append(digest.hexdigest()[:_DIGITS])
    if self._file:
      lines = digests
      if self._has_numbers:
        lines = [
          f'{digest} {i:{_NUMBER_DIGITS}}'
          for i, digest in enumerate(digests, number)
        ]
      self._file.write(''.join(f'{line}\n' for line in lines).encode())
    return digests

  def flush(self) -> None:
    """Waits until all lines are on disk. Call it before each checkpoint."""
    if self._file:
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Flushes and closes the file."""
    if self._file:
      self._file.close()


def _line_size(path: Path) -> int:
  """Returns the size of the first line of a ledger, in bytes."""
  with path.open('rb') as file:
    start = file.read(_LINE_WITHOUT_NUMBER)
  return _LINE_WITHOUT_NUMBER if start.endswith(b'\n') else _LINE
