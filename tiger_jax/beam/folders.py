"""Writes the output of a pipeline, so that it is either complete or absent."""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil

from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import artifacts, claim, files, os_errors

_RESULT, _WORK = 'result', 'work'


@contextlib.contextmanager
def replaced(out: Path) -> Iterator[tuple[Path, Path]]:
  """Yields two empty folders: the future content of `out`, and one for work.

  Both are in `out` with the suffix `.partial`, which is locked. At the end of
  the `with` statement, the first one is renamed to `out`, and the rest is
  removed. What a killed pipeline left is removed at the start.

  Raises:
    UsageError: `out` exists, or another process writes it.
    DataError: The file system failed.
  """
  partial = out.with_name(f'{out.name}.partial')
  with artifacts.locked(partial, _claim, '--out'):
    try:
      refuse_existing(out)
      for name in (_RESULT, _WORK):
        shutil.rmtree(partial / name, ignore_errors=True)
        (partial / name).mkdir()
      yield partial / _RESULT, partial / _WORK
      for path in (partial / _RESULT).rglob('*'):
        files.sync(path)
      (partial / _RESULT).rename(out)
      files.sync(out.parent)
    except OSError as error:
      raise DataError(os_errors.describe(error, out)) from error
    finally:
      # Only the lock remains, which `locked` or the next line removes.
      for name in (_RESULT, _WORK):
        shutil.rmtree(partial / name, ignore_errors=True)
    (partial / claim.LOCK).unlink()
    with contextlib.suppress(OSError):
      partial.rmdir()


def refuse_existing(out: Path) -> None:
  """Raises UsageError if the folder of the output exists."""
  if os.path.lexists(out):
    raise UsageError(f'{out} exists: remove it, or choose another --out')


def _claim(partial: Path) -> None:
  """Creates the folder, and refuses one that holds something else."""
  try:
    claim.refuse_link(partial, '--out')
    partial.mkdir(parents=True, exist_ok=True)
    names = set(claim.entries(partial)) - {claim.LOCK, _RESULT, _WORK}
  except OSError as error:
    raise UsageError(
      f'{partial} cannot be used ({error.strerror}): choose another --out'
    ) from error
  if names:
    raise UsageError(
      f'{partial} holds {min(names)}, which no pipeline wrote: move it, or '
      'choose another --out'
    )
