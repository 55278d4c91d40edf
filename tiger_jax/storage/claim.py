"""Checks that a run may write to a folder.

The folder must be new, empty or the folder of a run, because a run replaces
files in it. A run never writes through a link inside its folder.
"""

from collections.abc import Iterator
import fnmatch
import itertools
from pathlib import Path
import stat
from typing import Any

from tiger_jax.errors import UsageError
from tiger_jax.storage import files, record

# The folder of every run has an empty regular file of this name.
LOCK = '.lock'
# Sections that the config of every version has.
_SECTIONS = {'seed', 'dataset', 'embedding', 'semantic_ids', 'model', 'train'}
# Maps a file that a run replaces to the keys that identify it.
_OVERWRITTEN = {
  'config.json': _SECTIONS,
  'results.json': {'model', 'dataset', 'metrics'},
}
# Files and folders that file systems, desktops and shells create.
_HARMLESS = (
  'lost+found', '.snapshot*', '.nfs*', '.Trash*', '.DS_Store', '._*',
  '.directory', 'Thumbs.db', 'desktop.ini', '*.log', '*.out', '*.err',
)  # fmt: skip
# A run appends to these files, so it would follow a link of this name.
_APPENDED = ('metrics.jsonl', 'metrics.partial', 'tensorboard')


def claim(workdir: Path) -> None:
  """Creates the folder of a run if it is missing, and checks it.

  Raises:
    UsageError: The folder cannot be created, or it holds something other than
      a run.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    is_foreign = any(entries(workdir)) and not is_run(workdir)
  except OSError as error:
    raise UsageError(
      f'{workdir} cannot be used ({error.strerror}): choose another --workdir'
    ) from error
  if is_foreign:
    raise UsageError(
      f'{workdir} is not empty, and is not the folder of a run: choose another '
      f'--workdir, or if it is a copy of a run, `touch {workdir / LOCK}`'
    )
  for name in _APPENDED:
    refuse_link(workdir / name)


def is_run(folder: Path) -> bool:
  """Returns whether a folder belongs to a run or an experiment."""
  for name, keys in _OVERWRITTEN.items():
    if (folder / name).exists() and not _has_keys(folder / name, keys):
      return False  # Another program wrote this file, and maybe `.lock` too.
  lock = folder / LOCK
  if not lock.is_symlink() and lock.is_file() and lock.stat().st_size == 0:
    return True
  # A copy of a run may lack hidden files such as `.lock`.
  if _has_keys(folder / 'config.json', _SECTIONS):
    return True
  stages = folder.glob(f'*/{record.NAME}')
  if any(_has_keys(x, {'fingerprint', 'seconds', 'about'}) for x in stages):
    return True
  rows = itertools.islice(folder.glob('results/*/*/*.json'), 3)
  return any(_has_keys(x, {'schema', 'experiment', 'run'}) for x in rows)


def refuse_link(path: Path, flag: str = '--workdir') -> None:
  """Raises UsageError if a path is a link. `flag` names the folder."""
  if path.is_symlink():
    raise UsageError(
      f'{path} is a link, and a run does not write through links: remove it, '
      f'or choose another {flag}'
    )


def make_folder(root: Path, *names: str) -> Path:
  """Creates a folder inside another, and returns its path.

  Raises:
    UsageError: One of `names` is a link.
  """
  for name in names:
    root = root / name
    refuse_link(root)
    root.mkdir(parents=True, exist_ok=True)
  return root


def entries(folder: Path) -> Iterator[str]:
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
