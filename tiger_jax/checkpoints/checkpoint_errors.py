"""Turns errors of checkpoints into one line with a remedy."""

from collections.abc import Iterator
import contextlib
from pathlib import Path

from tiger_jax.errors import CheckpointError, UsageError
from tiger_jax.storage import os_errors


class DamagedError(CheckpointError):
  """A checkpoint differs from what was written."""


@contextlib.contextmanager
def explained(
  folder: Path, problem: str, damaged: Path | None = None
) -> Iterator[None]:
  """Turns any error into one that names the folder, the reason and a remedy.

  Args:
    folder: The folder of the checkpoints.
    problem: What has failed.
    damaged: The checkpoint that is damaged if the block raises; a
      `DamagedError` is raised. With None, a `CheckpointError` is raised.
  """
  try:
    yield
  except (CheckpointError, UsageError):
    raise
  # Orbax passes on any error of the file system or of the format library.
  except Exception as error:
    reason, remedy = os_errors.explain(error)
    message = f'{folder}: {problem} ({reason}); '
    if damaged:
      message += f'remove {damaged} to use an earlier checkpoint'
      raise DamagedError(message) from error
    raise CheckpointError(message + remedy) from error
