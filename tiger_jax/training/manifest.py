"""What a folder holds, written down so that damage to it is found."""

from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import os
from pathlib import Path
from typing import Any

NAME = 'manifest.json'


def write(folder: Path, about: dict[str, Any]) -> None:
  """Writes the size and sha256 of every file, and waits until all are on disk.

  Args:
    folder: Nobody writes there any more.
    about: JSON to tell this folder from others like it.
  """
  names = _names(folder)
  # Digests are work and the disk is a wait: threads do both at once.
  with ThreadPoolExecutor() as pool:
    synced = pool.map(sync, folder.rglob('*'))
    digests = pool.map(_describe, [folder / name for name in names])
    files = dict(zip(names, digests, strict=True))
    list(synced)
  (folder / NAME).write_bytes(_encode({'about': about, 'files': files}))
  for path in (folder / NAME, folder):
    sync(path)


def check(folder: Path, about: dict[str, Any]) -> None:
  """Checks that every byte is as it was.

  Args:
    folder: What `write` was given.
    about: As then.

  Raises:
    ValueError: Something is missing, was changed, or is of another folder.
  """
  try:
    written = (folder / NAME).read_bytes()
    found = json.loads(written)
    files = found['files']
    # Any other way to write the same was not written here.
    if _encode(found) != written:
      raise ValueError
  except FileNotFoundError as error:
    raise ValueError(f'{NAME} is missing') from error
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f'{NAME} is damaged') from error
  if found['about'] != about:
    raise ValueError(f'{NAME} is of {found["about"]}, not of {about}')
  for name, description in files.items():
    try:
      now = _describe(folder / name)
    except OSError as error:
      raise ValueError(f'{name} cannot be read ({error.strerror})') from error
    if now != description:
      raise ValueError(f'{name} is not as it was written')
  if strange := sorted(set(_names(folder)) - set(files)):
    raise ValueError(f'{strange[0]} was not there when it was written')


def _names(folder: Path) -> list[str]:
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file() and path != folder / NAME
  )


def _describe(path: Path) -> list[int | str]:
  with path.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return [file.tell(), digest]


def _encode(value: Any) -> bytes:
  """Returns the one way to write `value`; its digest is part of it."""
  value = {k: v for k, v in value.items() if k != 'sha256'}
  body = json.dumps(value, sort_keys=True)
  digest = hashlib.sha256(body.encode()).hexdigest()
  return json.dumps(value | {'sha256': digest}, indent=1).encode()


def sync(path: Path) -> None:
  """Waits until a file, or the names in a folder, are on disk."""
  number = os.open(path, os.O_RDONLY)
  try:
    os.fsync(number)
  finally:
    os.close(number)
