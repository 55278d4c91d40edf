"""Writes the output of a pipeline so that it is complete or absent."""

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
  """Yields two empty folders: the content of `out`, and a folder for work.

  Both are in a locked folder with the name of `out` and the suffix `.partial`.
  At the end of the `with` statement, the first folder is renamed to `out`, and
  the second one is removed. If the body raises an error, both are removed. The
  files of a killed pipeline are removed at the start.

  Raises:
    UsageError: `out` exists, another process uses the `.partial` folder, or
      this folder has files that no pipeline wrote.
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
      # The lock file remains. The lines below remove it, or `locked` after an
      # error.
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
  """Creates the folder; raises UsageError if it has other files."""
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
