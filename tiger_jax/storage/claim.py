"""Checks that a run may write to a folder: a new one, or one of a run.

A run never writes through a link inside its folder.
"""

from collections.abc import Iterator
import fnmatch
import itertools
from pathlib import Path
import stat
from typing import Any

from tiger_jax.errors import UsageError
from tiger_jax.storage import files, record

# Every run has an empty regular file of this name in its folder.
LOCK = '.lock'
# Most sections of a configuration; older versions had fewer.
_SECTIONS = {'seed', 'dataset', 'embedding', 'semantic_ids', 'model', 'train'}
# What a run replaces, and the keys that tell its own files from others.
_OVERWRITTEN = {
  'config.json': _SECTIONS,
  'results.json': {'model', 'dataset', 'metrics'},
}
# Files and folders that file systems, desktops and shells create.
_HARMLESS = (
  'lost+found', '.snapshot*', '.nfs*', '.Trash*', '.DS_Store', '._*',
  '.directory', 'Thumbs.db', 'desktop.ini', '*.log', '*.out', '*.err',
)  # fmt: skip
# Files that are written in place, so that a link would be followed.
_APPENDED = ('metrics.jsonl', 'metrics.partial', 'tensorboard')


def claim(workdir: Path) -> None:
  """Makes the folder of a run if it does not exist, and checks it.

  Raises:
    UsageError: It cannot be made, or it holds something that is not a run.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    is_foreign = any(_entries(workdir)) and not is_run(workdir)
  except OSError as error:
    raise UsageError(
      f'{workdir} cannot be used ({error.strerror}): choose another --workdir'
    ) from error
  if is_foreign:
    raise UsageError(
      f'{workdir} is not empty, and no run of this program made it: choose '
      f'another --workdir, or if it is a copy of a run, `touch '
      f'{workdir / LOCK}`'
    )
  for name in _APPENDED:
    refuse_link(workdir / name)


def is_run(folder: Path) -> bool:
  """Returns whether a folder is that of a run, or of an experiment."""
  for name, keys in _OVERWRITTEN.items():
    if (folder / name).exists() and not _has_keys(folder / name, keys):
      return False  # Other programs have files of these names, and of `.lock`.
  lock = folder / LOCK
  if not lock.is_symlink() and lock.is_file() and lock.stat().st_size == 0:
    return True
  # A copy may lack hidden files.
  if _has_keys(folder / 'config.json', _SECTIONS):
    return True
  stages = folder.glob(f'*/{record.NAME}')
  if any(_has_keys(x, {'fingerprint', 'seconds', 'about'}) for x in stages):
    return True
  rows = itertools.islice(folder.glob('results/*/*/*.json'), 3)
  return any(_has_keys(x, {'schema', 'experiment', 'run'}) for x in rows)


def refuse_link(path: Path) -> None:
  """Raises UsageError where a path is a link."""
  if path.is_symlink():
    raise UsageError(
      f'{path} is a link, which a run does not write through: remove it, or '
      'choose another --workdir'
    )


def make_folder(root: Path, *names: str) -> Path:
  """Makes a folder below another, and returns it; links are refused.

  Raises:
    UsageError: One of the names is a link.
  """
  for name in names:
    root = root / name
    refuse_link(root)
    root.mkdir(parents=True, exist_ok=True)
  return root


def _entries(folder: Path) -> Iterator[str]:
  """Yields the entries of a folder, except harmless ones."""
  for path in folder.iterdir():
    if not any(fnmatch.fnmatchcase(path.name, x) for x in _HARMLESS):
      yield path.name


def _has_keys(path: Path, keys: set[str]) -> bool:
  """Returns whether a file is a JSON object with these keys."""
  try:
    if not stat.S_ISREG(path.lstat().st_mode):
      return False
    value: Any = files.read_json(path)
  except (OSError, ValueError):
    return False
  return isinstance(value, dict) and keys <= value.keys()
