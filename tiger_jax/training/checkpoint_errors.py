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
  folder: Path, problem: str, kind: type[CheckpointError] = CheckpointError
) -> Iterator[None]:
  """Turns any error into one that names the folder, the reason and a remedy.

  Args:
    folder: Holds the checkpoints.
    problem: What did not work.
    kind: The error that is raised.
  """
  try:
    yield
  except (CheckpointError, UsageError):
    raise
  # Orbax raises whatever the file system or the format library did.
  except Exception as error:
    reason, remedy = os_errors.explain(error)
    if kind is DamagedError:
      remedy = 'remove that folder to resume from an earlier one'
    raise kind(f'{folder}: {problem} ({reason}); {remedy}') from error
