"""Reads and writes columns of text as Parquet files.

A file may come from another machine. Reading it executes no code, and needs no
more memory than a small multiple of its size.
"""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tiger_jax.storage import files

# Enough for the texts of a hundred million items.
_MAX_BYTES = 2**35
# A row group of text must be smaller than 2 GiB.
_GROUP_ROWS = 2**14


def write(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
  """Replaces a file with columns of equal length, see `files.write`."""
  schema = pa.schema([(name, pa.string()) for name in columns])
  num_rows = len(next(iter(columns.values())))
  # `read` refuses compressed files, because a small one can be enormous when it
  # is decompressed.
  with (
    files.replacing(path) as file,
    parquet.ParquetWriter(file, schema, compression='NONE') as writer,
  ):
    for start in range(0, num_rows, _GROUP_ROWS):
      rows = slice(start, start + _GROUP_ROWS)
      arrays = [pa.array(x[rows], pa.string()) for x in columns.values()]
      writer.write_table(pa.table(arrays, schema=schema))


def read(path: Path) -> dict[str, tuple[str, ...]]:
  """Returns the columns of a file that `write` wrote.

  Raises:
    OSError: The file is missing or cannot be read.
    ValueError: The file is damaged, too large, or has columns of other types.
  """
  with files.open_regular(path, _MAX_BYTES) as opened:
    try:
      # Dictionaries store each distinct text once. Without them, a short file
      # could stand for one long text in millions of rows.
      file = parquet.ParquetFile(opened)
      names = _checked(file, path, os.fstat(opened.fileno()).st_size)
      opened.seek(0)
      file = parquet.ParquetFile(opened, read_dictionary=names)
      columns: dict[str, list[str]] = {name: [] for name in names}
      for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)
        table.validate(full=True)
        for name, column in zip(names, table.columns, strict=True):
          for chunk in column.chunks:
            columns[name] += _texts(chunk)
    except (pa.ArrowException, OSError) as error:
      raise ValueError(f'{path.name}: {error}') from error
  if len({len(column) for column in columns.values()}) > 1:
    raise ValueError(f'the columns of {path.name} have different lengths')
  return {name: tuple(column) for name, column in columns.items()}


def _checked(file: parquet.ParquetFile, path: Path, size: int) -> list[str]:
  """Returns the names of the columns; raises ValueError for another form."""
  names, metadata = file.schema_arrow.names, file.metadata
  if len(set(names)) < len(names) or any(
    kind != pa.string() for kind in file.schema_arrow.types
  ):
    raise ValueError(f'{path.name} has a column that is not text')
  # Ids are distinct, so every row needs at least one byte of the file.
  if metadata.num_rows > size:
    raise ValueError(f'{path.name} has more rows than bytes')
  for group in map(metadata.row_group, range(metadata.num_row_groups)):
    for column in map(group.column, range(group.num_columns)):
      if column.compression != 'UNCOMPRESSED':
        raise ValueError(f'{path.name} is compressed')
  return names


def _texts(chunk: pa.Array) -> list[str]:
  """Returns the texts of a chunk. Equal texts are the same object."""
  if not pa.types.is_dictionary(chunk.type):
    values, rows = chunk.to_pylist(), range(len(chunk))
  else:
    values = chunk.dictionary.to_pylist()
    rows = chunk.indices.to_pylist()
  if chunk.null_count or None in values:
    raise ValueError('a text is missing')
  return [values[row] for row in rows]
