"""The ledger: which batch every step of a run was trained on."""

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
# Lines have a fixed size, so that a step is found by its offset.
_LINE = _DIGITS + 1 + _NUMBER_DIGITS + 1
_LINE_WITHOUT_NUMBER = _DIGITS + 1


class Ledger:
  """One line per step: the first digits of the batch's sha256, and its number.

  Two runs whose ledgers are equal saw the same batches in the same order,
  whatever interrupted them. Skipped batches have no line. Earlier versions
  wrote no batch numbers; a ledger that begins without them continues so.
  """

  def __init__(self, path: Path | None, step: int):
    """Opens the ledger of a run that goes on after `step`.

    Args:
      path: Where; lines past `step` are dropped, for they are written again.
        None only tells the digests.
      step: Steps done.

    Raises:
      CheckpointError: Lines before it are missing.
    """
    self._file: BinaryIO | None = None
    if path is None:
      return
    held = path.stat().st_size if path.exists() else 0
    line = _line_size(path) if step and held else _LINE
    if held < step * line:
      raise CheckpointError(
        f'{path} ends at step {held // line}, before step {step} of the '
        f'checkpoint: remove {path.parent} to begin anew'
      )
    path.parent.mkdir(parents=True, exist_ok=True)
    self._file = files.open_to_append(path)
    self._file.truncate(step * line)
    self._has_numbers = line == _LINE

  def add(self, stack: Any, number: int) -> list[str]:
    """Writes the lines of a stack of batches.

    Args:
      stack: Host arrays, whose first axis counts the batches.
      number: The number of the first batch; the others follow it.

    Returns:
      Their digests.
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
    """Waits until everything is on disk, as a checkpoint soon will be."""
    if self._file:
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Flushes and closes."""
    if self._file:
      self._file.close()


def _line_size(path: Path) -> int:
  """Returns the size of the first line of a ledger, in bytes."""
  with path.open('rb') as file:
    start = file.read(_LINE_WITHOUT_NUMBER)
  return _LINE_WITHOUT_NUMBER if start.endswith(b'\n') else _LINE
