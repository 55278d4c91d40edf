"""Writes and checks the manifest of a folder, which reveals damage.

The folder may come from another machine. Names in a manifest are therefore
never opened, only compared with the names of the files in the folder.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tiger_jax.storage import files
from tiger_jax.storage.files import sync

NAME = 'manifest.json'
# A checkpoint has a dozen files, and an entry takes 150 bytes.
_MAX_BYTES = 2**22
_MAX_ENTRIES = 2**15


def write(folder: Path, about: dict[str, Any]) -> None:
  """Writes the size and sha256 of every file, and waits until all are on disk.

  Args:
    folder: The folder, in which all files are complete.
    about: JSON to tell this folder from others like it.
  """
  names = sorted(_sizes(folder))
  folders = [path for path in folder.rglob('*') if path.is_dir()]
  # Digests are work and the disk is a wait: threads do both at once.
  with ThreadPoolExecutor() as pool:
    synced = pool.map(sync, [folder / name for name in names] + folders)
    digests = pool.map(_describe, [folder / name for name in names])
    described = dict(zip(names, digests, strict=True))
    list(synced)
  (folder / NAME).write_bytes(_encode({'about': about, 'files': described}))
  for path in (folder / NAME, folder):
    sync(path)


def check(
  folder: Path, about: dict[str, Any], prefixes: tuple[str, ...] = ('',)
) -> None:
  """Checks that every byte is as it was.

  Args:
    folder: What `write` was given.
    about: As then.
    prefixes: Only files whose names begin with one of these are checked.

  Raises:
    ValueError: Something is missing, was changed, or is of another folder.
    OSError: A file cannot be read.
  """
  found = _read(folder)
  if found['about'] != about:
    raise ValueError(f'{NAME} is of {found["about"]}, not of {about}')
  described = _beginning(found['files'], prefixes)
  sizes = _beginning(_sizes(folder), prefixes)
  if missing := sorted(described.keys() - sizes.keys()):
    raise ValueError(f'{missing[0]} is missing')
  if extra := sorted(sizes.keys() - described.keys()):
    raise ValueError(f'{extra[0]} was not there when it was written')
  # All sizes first: they cost nothing, a digest reads the whole file.
  for name, description in described.items():
    if not isinstance(description, list) or description[:1] != [sizes[name]]:
      raise ValueError(f'{name} is not as it was written')
  for name, description in described.items():
    if _describe(folder / name) != description:
      raise ValueError(f'{name} is not as it was written')


def _beginning(
  named: dict[str, Any], prefixes: tuple[str, ...]
) -> dict[str, Any]:
  return {name: x for name, x in named.items() if name.startswith(prefixes)}


def _read(folder: Path) -> dict[str, Any]:
  try:
    written = files.read(folder / NAME, _MAX_BYTES)
    found = json.loads(written)
    # `_encode` is deterministic, so any other form of the JSON is damage.
    if _encode(found) != written or not isinstance(found['files'], dict):
      raise ValueError
  except FileNotFoundError as error:
    raise ValueError(f'{NAME} is missing') from error
  except (
    ValueError, TypeError, KeyError, AttributeError, RecursionError
  ) as error:  # fmt: skip
    raise ValueError(f'{NAME} is damaged') from error
  return found


def _sizes(folder: Path) -> dict[str, int]:
  """Returns the size of every file in a folder but the manifest, by name.

  Raises:
    ValueError: An entry is neither a file nor a folder, or there are too many.
  """
  return {
    name: entry.stat(follow_symlinks=False).st_size
    for name, entry in _entries(folder)
    if name != NAME and not entry.is_dir(follow_symlinks=False)
  }


def _entries(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
  pending = ['']
  num_entries = 0
  while pending:
    parent = pending.pop()
    with os.scandir(folder / parent) as entries:
      for entry in entries:
        num_entries += 1
        if num_entries > _MAX_ENTRIES:
          raise ValueError(f'it holds more than {_MAX_ENTRIES} files')
        name = f'{parent}{entry.name}'
        if entry.is_dir(follow_symlinks=False):
          pending.append(f'{name}/')
        elif not entry.is_file(follow_symlinks=False):
          raise ValueError(f'{name} is not a regular file')
        yield name, entry


def _describe(path: Path) -> list[int | str]:
  number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
  with open(number, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return [file.tell(), digest]


def _encode(value: Any) -> bytes:
  """Encodes `value` and its digest as JSON, always in the same form."""
  value = {k: v for k, v in value.items() if k != 'sha256'}
  body = json.dumps(value, sort_keys=True)
  digest = hashlib.sha256(body.encode()).hexdigest()
  return json.dumps(value | {'sha256': digest}, indent=1).encode()
