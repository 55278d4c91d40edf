"""Errors of checkpoints, each one line that says what to do."""

from collections.abc import Iterator
import contextlib
from pathlib import Path

from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.storage import os_errors


class DamagedError(CheckpointError):
  """A checkpoint is not what was written."""


@contextlib.contextmanager
def explained(
  folder: Path, problem: str, damaged: Path | None = None
) -> Iterator[None]:
  """Turns any error into one that names the folder, the reason and a remedy.

  Args:
    folder: Holds the checkpoints.
    problem: What did not work.
    damaged: The checkpoint that a `DamagedError` is raised about; None raises
      a `CheckpointError`.
  """
  try:
    yield
  except (CheckpointError, UsageError):
    raise
  # Orbax raises whatever the file system or the format library did.
  except Exception as error:
    reason, remedy = os_errors.explain(error)
    message = f'{folder}: {problem} ({reason}); '
    if damaged:
      message += f'remove {damaged} to use an earlier checkpoint'
      raise DamagedError(message) from error
    raise CheckpointError(message + remedy) from error
