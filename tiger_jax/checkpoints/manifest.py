"""Writes and checks the manifest of a folder, which detects damaged files.

The folder may come from another machine. File names in a manifest are therefore
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
# A checkpoint has about 12 files, and an entry takes 150 bytes.
_MAX_BYTES = 2**22
_MAX_ENTRIES = 2**15


def write(folder: Path, metadata: dict[str, Any]) -> None:
  """Records the size and sha256 of all files, and waits for all disk writes.

  Args:
    folder: The folder, with complete files.
    metadata: JSON that identifies the folder among similar ones.
  """
  names = sorted(_sizes(folder))
  folders = [path for path in folder.rglob('*') if path.is_dir()]
  # Threads compute digests while other threads wait for the disk.
  with ThreadPoolExecutor() as pool:
    synced = pool.map(sync, [folder / name for name in names] + folders)
    records = pool.map(_size_and_digest, [folder / name for name in names])
    recorded = dict(zip(names, records, strict=True))
    list(synced)
  (folder / NAME).write_bytes(_encode({'about': metadata, 'files': recorded}))
  for path in (folder / NAME, folder):
    sync(path)


def check(
  folder: Path, metadata: dict[str, Any], prefixes: tuple[str, ...] = ('',)
) -> None:
  """Checks that the files are unchanged since the manifest was written.

  Args:
    folder: The folder.
    metadata: The JSON that was given to `write`.
    prefixes: Only files whose names begin with one of these are checked.

  Raises:
    ValueError: A file is missing, new or changed, or the manifest belongs to
      another folder.
    OSError: A file cannot be read.
  """
  manifest = _read(folder)
  if manifest['about'] != metadata:
    raise ValueError(
      f'{NAME} belongs to {manifest["about"]}, not to {metadata}'
    )
  recorded = _select(manifest['files'], prefixes)
  sizes = _select(_sizes(folder), prefixes)
  if missing := sorted(recorded.keys() - sizes.keys()):
    raise ValueError(f'{missing[0]} is missing')
  if extra := sorted(sizes.keys() - recorded.keys()):
    raise ValueError(f'{extra[0]} is not in {NAME}')
  # All sizes are compared first, because a digest reads the whole file.
  for name, record in recorded.items():
    if not isinstance(record, list) or record[:1] != [sizes[name]]:
      raise ValueError(f'{name} is not as it was written')
  for name, record in recorded.items():
    if _size_and_digest(folder / name) != record:
      raise ValueError(f'{name} is not as it was written')


def _select(
  by_name: dict[str, Any], prefixes: tuple[str, ...]
) -> dict[str, Any]:
  return {name: x for name, x in by_name.items() if name.startswith(prefixes)}


def _read(folder: Path) -> dict[str, Any]:
  try:
    encoded = files.read(folder / NAME, _MAX_BYTES)
    manifest = json.loads(encoded)
    # `_encode` is deterministic, so any other text is damaged.
    if _encode(manifest) != encoded or not isinstance(manifest['files'], dict):
      raise ValueError
  except FileNotFoundError as error:
    raise ValueError(f'{NAME} is missing') from error
  except (
    ValueError, TypeError, KeyError, AttributeError, RecursionError
  ) as error:  # fmt: skip
    raise ValueError(f'{NAME} is damaged') from error
  return manifest


def _sizes(folder: Path) -> dict[str, int]:
  """Returns the size of every file in a folder, except the manifest, by name.

  Raises:
    ValueError: An entry is neither a file nor a folder, or there are too many
      entries.
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
          raise ValueError(f'the folder holds more than {_MAX_ENTRIES} entries')
        name = f'{parent}{entry.name}'
        if entry.is_dir(follow_symlinks=False):
          pending.append(f'{name}/')
        elif not entry.is_file(follow_symlinks=False):
          raise ValueError(f'{name} is not a regular file')
        yield name, entry


def _size_and_digest(path: Path) -> list[int | str]:
  number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
  with open(number, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return [file.tell(), digest]


def _encode(value: Any) -> bytes:
  """Encodes `value` and its digest as JSON; equal values give equal bytes."""
  value = {k: v for k, v in value.items() if k != 'sha256'}
  body = json.dumps(value, sort_keys=True)
  digest = hashlib.sha256(body.encode()).hexdigest()
  return json.dumps(value | {'sha256': digest}, indent=1).encode()
