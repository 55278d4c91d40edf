"""Finds the files of a table of your own data."""

from pathlib import Path
import re

from tiger_jax.data.files import byte_streams, tables
from tiger_jax.errors import DataError

_COMMON = ('.csv', '.jsonl', '.parquet')


def candidates(folder: Path, name: str) -> list[Path]:
  """Returns every path at which the table `name` may exist."""
  ends = [*_COMMON, *(x for x in tables.SUFFIXES if x not in _COMMON)]
  ends += [x + y for x in ends for y in byte_streams.COMPRESSIONS]
  return [folder / name, *(folder / f'{name}{end}' for end in ends)]


def find(folder: Path, name: str) -> list[Path]:
  """Returns the files of the table `name`; [] if there is none.

  A table is one file, or all files of a folder in the order of their names.

  Raises:
    DataError: There are several candidates, or a folder has files of different
      kinds or no files.
  """
  if not folder.is_dir():
    raise DataError(
      f'there is no folder {folder}: set config.dataset.source_dir to the '
      'folder of your files'
    )
  paths = [
    path
    for path in candidates(folder, name)
    if (path.is_dir() if path.name == name else path.exists())
  ]
  if len(paths) > 1:
    raise DataError(
      f'{folder} has {" and ".join(path.name for path in paths)}: keep one of '
      'them'
    )
  if not paths:
    return []
  return _parts(paths[0]) if paths[0].name == name else paths


def require(folder: Path, name: str) -> list[Path]:
  """Returns the result of `find`; raises DataError if it is empty."""
  paths = find(folder, name)
  if not paths:
    raise DataError(
      f'{folder} has no {name} file: add one of '
      f'{", ".join(f"{name}{end}" for end in _COMMON)} (docs/data.md lists all '
      'formats)'
    )
  return paths


def shown(folder: Path, name: str, paths: list[Path]) -> Path:
  """Returns the path of a table, file or folder, for messages."""
  return paths[0] if paths[0].parent == folder else folder / name


def _parts(folder: Path) -> list[Path]:
  # Spark writes a file _SUCCESS and hidden checksum files.
  paths = [x for x in folder.iterdir() if not x.name.startswith(('.', '_'))]
  if not paths:
    raise DataError(f'{folder} has no files: put the files of the table there')
  paths.sort(key=natural_key)
  kinds = {byte_streams.suffix(path): path.name for path in reversed(paths)}
  for kind, name in kinds.items():
    if kind not in tables.SUFFIXES:
      raise DataError(
        f'{folder / name} is not one of {", ".join(tables.SUFFIXES)}: remove it'
      )
  if len(kinds) > 1:
    first, second, *_ = sorted(kinds.values(), key=str)
    raise DataError(
      f'{folder} has files of different kinds, such as {first} and {second}: '
      'keep one kind'
    )
  return paths


def natural_key(path: Path) -> list[tuple[int, int, str]]:
  """Returns a sort key that puts part-2 before part-10."""
  parts = re.split(r'([0-9]{1,18})', path.name)
  return [(1, int(x), '') if x.isdecimal() else (0, 0, x) for x in parts]
