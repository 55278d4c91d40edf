"""The tasks of `prepare` that read and write the items table.

The number of items is limited, because a training run holds them in memory. One
worker therefore reads the whole table.
"""

from collections.abc import Sequence
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tiger_jax.beam import events
from tiger_jax.beam.jobs import Result, unique
from tiger_jax.data.dataset import FIELDS
from tiger_jax.data.sources import own_files
from tiger_jax.storage import texts as storage

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc


def read(
  settings: events.Settings, paths: Sequence[str], text_columns: Sequence[str]
) -> Result:
  """Reads the items table.

  Returns:
    The path of a file with the items, and the other fields of `ItemsTable`.
  """
  files = [Path(path) for path in paths]
  table = own_files.read_items(settings.config, files, text_columns)
  assert table.texts is not None
  columns = {'item': table.texts.ids, **table.texts.fields}
  path = f'{Path(settings.work) / unique("texts")}.arrow'
  # Large strings, because the texts of all items may exceed 2 GiB.
  arrays = {name: pa.array(x, pa.large_string()) for name, x in columns.items()}
  with pa.ipc.new_file(path, pa.table(arrays).schema) as file:
    file.write_table(pa.table(arrays))
  return {
    'texts': path,
    'path': table.path,
    'notes': table.notes,
    'fields': table.fields,
    'rows': table.rows,
  }


def write(
  catalog: str, texts: str, text_columns: Sequence[str], path: str
) -> Result:
  """Writes the items of the catalog in the order of their rows.

  Args:
    catalog: The file with the ids of the catalog.
    texts: The file with the texts; '' if there is no items table.
    text_columns: The columns that are written even if there is no items table.
    path: The Parquet file to write.
  """
  ids = events.read_arrow(catalog)['item'].combine_chunks()
  empty = pa.array([''] * len(ids))
  columns = {'item': ids} | dict.fromkeys(FIELDS, empty)
  if texts:
    table = events.read_arrow(texts)
    known = table['item'].combine_chunks().cast(ids.type)
    places = _compute.index_in(ids, value_set=known)
    for name in table.column_names[1:]:
      columns[name] = table[name].combine_chunks().take(places).fill_null('')
  partial = events.partial_path(path)
  # `embed` reads the items with `texts.read`.
  storage.write(partial, {name: x.to_pylist() for name, x in columns.items()})
  os.replace(partial, path)
  return {'num_items': len(ids)}
