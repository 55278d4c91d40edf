"""Compiled programs that later runs of the same user load.

They are machine code that is executed, so they live in a folder that only the
user can write to, and never in a workdir, which may come from somebody else.
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

# A training leaves a few megabytes for each shape and version of jaxlib.
_MAX_BYTES = 2**30
_WARNING = re.compile(
  "Error (reading|writing) persistent compilation cache entry for '([^']+)'"
)


def use() -> None:
  """Lets JAX keep compiled programs, and load those that it kept before.

  A place that JAX was told of (`JAX_COMPILATION_CACHE_DIR`) is kept.
  """
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
  """Returns where the platform keeps a user's caches, None if nowhere."""
  place = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(place):
    in_home = '~/Library/Caches' if sys.platform == 'darwin' else '~/.cache'
    place = os.path.expanduser(in_home)
  return Path(place, 'tiger_jax') if os.path.isabs(place) else None


def _is_private(folder: Path) -> bool:
  """Makes the folder, and returns whether only this user can write to it.

  Says so where somebody else could, but not where there is no place for it.
  """
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
  except FileExistsError:  # A file, or a link that leads nowhere.
    status = folder.lstat()
  except OSError:
    return False
  if not stat.S_ISDIR(status.st_mode):
    reason = 'is not a folder'
  elif status.st_uid != os.geteuid():
    reason = 'belongs to another user'
  elif status.st_mode & 0o022:
    reason = 'can be written to by others'
  else:
    return os.access(folder, os.W_OK)
  print(
    f'warning: {folder} {reason}, so compiled programs are not kept: remove it',
    file=sys.stderr,
  )
  return False


def _prune(folder: Path, max_bytes: int) -> None:
  """Removes the entries that were used longest ago, down to a total size."""
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

  A run that was killed, or whose disk was full, leaves a part of an entry. JAX
  warns, compiles, and keeps the file that is there.
  """
  show = warnings.showwarning

  def repair(message: Any, *args: Any, **kwargs: Any) -> None:
    found = _WARNING.match(str(message))
    if not found:
      show(message, *args, **kwargs)
    elif found[1] == 'reading':
      for path in folder.glob(f'{glob.escape(found[2])}-*-cache'):
        with contextlib.suppress(OSError):
          path.unlink()

  warnings.showwarning = repair
