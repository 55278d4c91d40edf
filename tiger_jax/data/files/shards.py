"""Lists and checks the files of tables that are split into shards.

A table may be a folder of files. If a file is missing, the others are still a
valid table. `shards.json`, next to the tables, lists the files, so that a
missing or truncated file is an error. `python -m tiger_jax.beam` writes the
list.
"""

import hashlib
from pathlib import Path
from typing import Any

from tiger_jax.errors import DataError
from tiger_jax.storage import files

NAME = 'shards.json'


def write(folder: Path, about: dict[str, Any]) -> None:
  """Writes the list of the files in the folders of `folder`.

  Args:
    folder: The folder of the tables.
    about: JSON that `check` returns.
  """
  listed = {str(x.relative_to(folder)): _digest(x) for x in _shards(folder)}
  files.write_json(folder / NAME, {'files': listed, 'about': about})


def check(folder: Path) -> dict[str, Any] | None:
  """Checks the listed files; returns `about`, or None if there is no list.

  Raises:
    DataError: A file is missing, or has another content, or is not in the list;
      or the list is damaged.
  """
  path = folder / NAME
  if not path.exists():
    return None
  remedy = 'copy the whole folder again, or prepare it again'
  with files.explained(f'{path} is damaged', remedy):
    record = files.read_json(path)
    listed, about = dict(record['files']), dict(record['about'])
  for name, digest in listed.items():
    shard = folder / name
    if not shard.is_file():
      raise DataError(f'{shard} is missing, but {path} lists it: {remedy}')
    if _digest(shard) != digest:
      raise DataError(f'{shard} is not the file that {path} lists: {remedy}')
  for shard in _shards(folder):
    if str(shard.relative_to(folder)) not in listed:
      raise DataError(f'{shard} is not in the list {path}: remove it')
  return about


def _shards(folder: Path) -> list[Path]:
  """Returns the files that a reader of the tables reads."""
  paths = sorted(folder.glob('*/*'))
  return [path for path in paths if not path.name.startswith(('.', '_'))]


def _digest(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
