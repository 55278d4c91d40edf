"""Sets up JAX's persistent compilation cache.

The cache holds machine code, which is executed. The cache is therefore in a
folder that only the user can write to. It is never in a workdir, because a
workdir may come from another person.
"""

import contextlib
import glob
import os
from pathlib import Path
import re
import stat
import sys
from typing import Any
import warnings

import jax

from tiger_jax.runtime.printing import warn

# A training run adds a few megabytes for each version of jaxlib and each set of
# array shapes.
_MAX_BYTES = 2**30
_WARNING = re.compile(
  "Error (reading|writing) persistent compilation cache entry for '([^']+)'"
)


def use() -> None:
  """Enables the cache, in `JAX_COMPILATION_CACHE_DIR` if that is set."""
  # pyrefly: ignore[missing-attribute]
  folder = jax.config.jax_compilation_cache_dir
  if folder is None:
    folder = _user_folder()
    if not folder or not _is_private(folder):
      return
    _prune(folder, _MAX_BYTES)
    jax.config.update('jax_compilation_cache_dir', str(folder))
  if folder:
    _repair_entries(Path(folder))


def _user_folder() -> Path | None:
  """Returns the default folder of the cache; None without a home folder."""
  caches = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(caches):
    in_home = '~/Library/Caches' if sys.platform == 'darwin' else '~/.cache'
    caches = os.path.expanduser(in_home)
  return Path(caches, 'tiger_jax') if os.path.isabs(caches) else None


def inspect() -> tuple[Path | None, str]:
  """Returns the folder of the cache, and why it is not used; writes nothing.

  The folder may not exist yet. It is None if there is no home folder. The
  reason is '' if the cache is used.
  """
  # pyrefly: ignore[missing-attribute]
  folder = jax.config.jax_compilation_cache_dir
  if folder is not None:
    return (Path(folder), '') if folder else (None, '')
  folder = _user_folder()
  if folder is None or not os.path.lexists(folder):
    return folder, ''
  reason = _problem(folder)
  return folder, reason or (
    '' if os.access(folder, os.W_OK) else 'is read-only'
  )


def _is_private(folder: Path) -> bool:
  """Creates the folder, and returns whether only this user can write to it.

  Prints a warning if another user could write to the folder. Prints nothing if
  the folder cannot be created.
  """
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
  except FileExistsError:  # A file or a broken link.
    if not os.path.lexists(folder):
      return False
  except OSError:
    return False
  reason = _problem(folder)
  if not reason:
    return os.access(folder, os.W_OK)
  warn(
    f'warning: {folder} {reason}, so compiled programs are not kept: remove it'
  )
  return False


def _problem(folder: Path) -> str:
  """Returns why a folder cannot hold machine code, or ''."""
  status = folder.lstat()
  if not stat.S_ISDIR(status.st_mode):
    return 'is not a folder'
  if status.st_uid != os.geteuid():
    return 'belongs to another user'
  if status.st_mode & 0o022:
    return 'can be written to by others'
  return ''


def _prune(folder: Path, max_bytes: int) -> None:
  """Keeps the most recently used entries, up to `max_bytes` in total."""
  entries = []
  with contextlib.suppress(OSError):
    for path in folder.glob('*-cache'):
      status = path.stat()
      entries.append((max(status.st_atime, status.st_mtime), status, path))
  total = 0
  for _, status, path in sorted(entries, key=lambda x: x[0], reverse=True):
    total += status.st_size
    if total > max_bytes:
      with contextlib.suppress(OSError):
        path.unlink()


def _repair_entries(folder: Path) -> None:
  """Removes entries that cannot be read, so that JAX writes them again.

  A run that is killed or fills the disk may leave an incomplete entry. JAX then
  warns and recompiles, but does not replace the entry.
  """
  show = warnings.showwarning

  def repair(message: Any, *args: Any, **kwargs: Any) -> None:
    match = _WARNING.match(str(message))
    if not match:
      show(message, *args, **kwargs)
    elif match[1] == 'reading':
      for path in folder.glob(f'{glob.escape(match[2])}-*-cache'):
        with contextlib.suppress(OSError):
          path.unlink()

  warnings.showwarning = repair
