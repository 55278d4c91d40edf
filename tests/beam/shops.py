"""Writes shops as raw files, and loads them on a single machine."""

import gzip
from pathlib import Path
import random

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tests import small
from tiger_jax.config import DatasetConfig
from tiger_jax.data.loading import load_dataset

RUNNER = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'
# The flags of one process, and of two worker processes.
ONE = (f'--runner={RUNNER}',)
TWO = (*ONE, '--direct_num_workers=2', '--direct_running_mode=multi_processing')


def config(folder, **settings):
  settings = {'drop_short_users': True, 'allow_missing_metadata': True,
              **settings}  # fmt: skip
  return DatasetConfig(name='files', source_dir=str(folder), **settings)


def events(num_events=3000, seed=0):
  """Returns rows with repeats, equal times, ratings and users of few events."""
  rng = random.Random(seed)
  rows = []
  for _ in range(num_events):
    rows.append(
      {
        'user': f'u{int(rng.paretovariate(0.6)) % 400}',
        'item': f'A{int(rng.paretovariate(0.5)) % 90:03d}',
        'timestamp': 1_500_000_000 + rng.randrange(200),
        'rating': rng.choice((1, 2, 3, 4, 4.5, 5, '')),
      }
    )
    if rng.random() < 0.1:
      rows.append(dict(rows[-1]))
  return rows


def write(folder: Path, rows, kind, num_files=4, catalog=None):
  """Writes a shop with several files of interactions.

  `kind` is `csv`, `csv.gz`, `jsonl`, `parquet`, or `dates` for Parquet files
  with dates.
  """
  folder.mkdir(parents=True, exist_ok=True)
  if catalog is not None:
    (folder / 'items.csv').write_text(small.as_csv(catalog))
  files = folder / 'interactions'
  files.mkdir()
  size = -(-len(rows) // num_files)
  for number in range(num_files):
    part = rows[number * size : (number + 1) * size]
    name = files / f'part-{number}.{"parquet" if kind == "dates" else kind}'
    if kind in ('parquet', 'dates'):
      parquet.write_table(_table(part, kind), name)
      continue
    text = small.as_jsonl(part) if kind == 'jsonl' else small.as_csv(part)
    data = text.encode()
    name.write_bytes(gzip.compress(data) if kind.endswith('.gz') else data)
  return folder


def _table(rows, kind):
  columns = {name: [row[name] for row in rows] for name in rows[0]}
  if 'rating' in columns:
    columns['rating'] = [None if x == '' else float(x)
                         for x in columns['rating']]  # fmt: skip
  if kind == 'dates':
    micros = [1000 * x + 123_456 for x in columns['timestamp']]
    columns['timestamp'] = pa.array(micros, pa.timestamp('us'))
  return pa.table(columns)


def on_one_machine(dataset_config, text_columns=('title',)):
  return load_dataset(dataset_config, 0, text_columns)


def assert_equal(first, second):
  """Compares every record of two datasets, except the counts."""
  assert first.name == second.name
  assert first.items == second.items or (
    first.items.ids == second.items.ids
    and first.items.fields == second.items.fields
  )
  assert first.user_ids == second.user_ids
  np.testing.assert_array_equal(first.history, second.history)
  np.testing.assert_array_equal(first.offsets, second.offsets)
  assert (first.timestamps is None) == (second.timestamps is None)
  if first.timestamps is not None:
    np.testing.assert_array_equal(first.timestamps, second.timestamps)
