"""Measures the time and the memory of the data stage.

  python -m benchmarks.data --data=FOLDER

FOLDER holds `amazon2014_beauty/` with the raw files. Without it, the first
section is skipped. `--quick` makes the shop of the second section a tenth as
large.

The first section compares the reader of the Amazon data with pandas, which
reads the same records of the same files. Lines of the metadata that are Python
literals instead of JSON are parsed with `ast.literal_eval`, because pandas
cannot read them. The second section prepares a random shop as own files, in a
process of its own.
"""

import argparse
import ast
import gc
import gzip
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

from jaxtyping import Int
import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from benchmarks import measuring
from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.sources import amazon2014, own_files

_EVENTS_PER_USER = 10
_EVENTS_PER_ITEM = 10
_START = 1_704_067_200  # 2024-01-01, in seconds since 1970.


def against_pandas(folder: Path, num_rounds: int) -> str:
  """Returns the times of reading a category of the Amazon data.

  Raises:
    Mismatch: The two sides read different records.
  """
  times = measuring.in_turns(
    {
      'tiger_jax': lambda i: amazon2014.read('Beauty', str(folder)),
      'pandas': lambda i: read_with_pandas(folder),
    },
    num_rounds,
    num_warm=1,
  )
  check_equal(amazon2014.read('Beauty', str(folder)), read_with_pandas(folder))
  peak = in_process('read', folder)['peak_mib']
  row = [
    'Beauty', measuring.spread(times['tiger_jax']),
    measuring.spread(times['pandas']),
    measuring.spread(times['tiger_jax'] / times['pandas']), f'{peak:,.0f}',
  ]  # fmt: skip
  header = ['', 'tiger_jax, s', 'pandas, s', 'ratio', 'tiger_jax, MiB']
  return measuring.table(header, [row])


def read_with_pandas(folder: Path) -> tuple[Any, Any]:
  """Returns the reviews and the metadata of Beauty as two data frames."""
  try:
    import pandas as pd
  except ImportError as error:
    raise SystemExit(
      f"pandas cannot be imported ({error}): pip install -e '.[bench]'"
    ) from error
  reviews, metadata = (folder / x for x in amazon2014.raw_names('Beauty'))
  with gzip.open(metadata, 'rt', encoding='utf-8') as lines:
    is_json = lines.read(2) == '{"'
  if is_json:
    return pd.read_json(reviews, lines=True), pd.read_json(metadata, lines=True)
  with gzip.open(metadata, 'rt', encoding='utf-8') as lines:
    records = pd.DataFrame([ast.literal_eval(line) for line in lines])
  return pd.read_json(reviews, lines=True), records


def check_equal(ours: amazon2014.Category, theirs: tuple[Any, Any]) -> None:
  """Raises `Mismatch` unless both sides have the same reviews and items."""
  reviews, metadata = theirs
  log = ours.log
  columns = {
    'reviewerID': np.asarray(log.user_ids, object)[log.users],
    'asin': np.asarray(log.item_ids, object)[log.items],
  }
  for name, values in columns.items():
    if values.tolist() != reviews[name].astype(str).tolist():
      raise measuring.Mismatch(f'the column {name} of the reviews differs')
  known = set(metadata['asin'].astype(str)) & set(log.item_ids)
  if known != set(ours.texts.ids):
    raise measuring.Mismatch('the items with metadata differ')


def write_shop(folder: Path, num_events: int, suffix: str) -> None:
  """Writes a random shop as two own files, `csv` or `parquet`.

  Every user has ten events. A tenth of the items is bought ten times as often
  as the other items.
  """
  rng = np.random.default_rng(0)
  num_items = num_events // _EVENTS_PER_ITEM
  users = rng.permutation(num_events) % (num_events // _EVENTS_PER_USER)
  items = rng.integers(0, num_items, num_events)
  popular = rng.random(num_events) < 0.5
  items[popular] //= 10
  events = {
    'user': _named('u', users),
    'item': _named('B', items),
    'timestamp': pa.array(_START + rng.integers(0, 10**8, num_events)),
  }
  every = np.arange(num_items)
  aisle, brand = rng.integers(0, [[500], [5000]], (2, num_items))
  texts = {
    'item': _named('B', every),
    'title': pa.array(
      [f'Brand {b} thing of aisle {a}, number {i}, in a box'
       for a, b, i in zip(aisle, brand, every, strict=True)]
    ),
    'price': pa.array(np.round(rng.uniform(1, 500, num_items), 2)),
    'brand': _named('Brand ', brand),
    'categories': _named('Shop > Department > Aisle ', aisle),
  }  # fmt: skip
  for name, columns in (('interactions', events), ('items', texts)):
    path = folder / f'{name}.{suffix}'
    write = csv.write_csv if suffix == 'csv' else parquet.write_table
    write(pa.table(columns), path)


def _named(prefix: str, numbers: Int[np.ndarray, ' n']) -> pa.Array:
  """Returns texts such as `u0000123`, encoded as a dictionary."""
  width = len(str(numbers.max()))
  values = [f'{prefix}{x:0{width}d}' for x in range(numbers.max() + 1)]
  return pa.DictionaryArray.from_arrays(numbers.astype(np.int32), values).cast(
    pa.string()
  )


def own_shop(num_events: int) -> str:
  """Returns the time and the memory of preparing a random shop."""
  rows = []
  for suffix in ('csv', 'parquet'):
    with tempfile.TemporaryDirectory() as folder:
      write_shop(Path(folder), num_events, suffix)
      result = in_process('prepare', Path(folder))
    if result['events'] != num_events:
      raise measuring.Mismatch(f'{result["events"]} events were read')
    rows.append([
      f'{suffix}, {num_events:,} events, {result["items"]:,} items',
      *(f'{result[x]:.1f}' for x in ('read_s', 'save_s', 'load_s', 'cpu_s')),
      f'{result["peak_mib"]:,.0f}',
    ])  # fmt: skip
  header = ['', 'read, s', 'save, s', 'load, s', 'CPU, s', 'peak, MiB']
  return measuring.table(header, rows)


def in_process(what: str, folder: Path) -> dict[str, Any]:
  """Returns the result of `what` in a new process, with its peak memory."""
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.data', f'--{what}={folder}'],
    stdout=subprocess.PIPE,
    check=True,
  )
  return json.loads(done.stdout)


def prepare(folder: Path) -> dict[str, Any]:
  """Reads own files, saves the dataset, and loads it again."""
  config = DatasetConfig(name='files', source_dir=str(folder))
  start = time.perf_counter()
  dataset = own_files.load(config)
  read = time.perf_counter()
  dataset.save(folder / 'data')
  saved = time.perf_counter()
  sizes = {'events': dataset.num_interactions, 'items': dataset.num_items}
  del dataset
  Dataset.load(folder / 'data')
  seconds = np.diff([start, read, saved, time.perf_counter()]).tolist()
  times = dict(zip(('read_s', 'save_s', 'load_s'), seconds, strict=True))
  return sizes | times | {'cpu_s': time.process_time()}


def _peak_mib() -> float:
  # `ru_maxrss` would include the memory of the process that started this one.
  status = Path('/proc/self/status').read_text()
  return int(status.partition('VmHWM:')[2].split()[0]) / 1024


def main() -> None:
  """Prints the sections."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data', type=Path)
  parser.add_argument('--quick', action='store_true')
  parser.add_argument('--read', type=Path, help=argparse.SUPPRESS)
  parser.add_argument('--prepare', type=Path, help=argparse.SUPPRESS)
  options = parser.parse_args()
  measuring.use_cores(2)
  gc.freeze()  # As the command line does.
  if options.read or options.prepare:
    if options.read:
      amazon2014.read('Beauty', str(options.read))
      result: dict[str, Any] = {}
    else:
      result = prepare(options.prepare)
    print(json.dumps(result | {'peak_mib': _peak_mib()}))
    return
  print(measuring.environment('pyarrow', 'pandas'))
  if options.data:
    num_rounds = 3 if options.quick else 9
    print('\n## Beauty and pandas\n')
    print(against_pandas(options.data / 'amazon2014_beauty', num_rounds))
  print('\n## Own files\n')
  print(own_shop(10**6 if options.quick else 10**7))


if __name__ == '__main__':
  main()
