"""Compares the pipeline `prepare` with the data stage of a single machine.

  .venv-beam/bin/python -m benchmarks.beam

The command runs in the environment of the extra `beam`, see docs/scale.md. Both
sides read a random shop as own files, and the benchmark checks that both
datasets are equal. `--quick` makes the shop a tenth as large. The command exits
with 1 if the pipeline takes more than three times as long.
"""

import argparse
from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import numpy as np
from pyarrow import csv

from benchmarks import data, measuring
from tiger_jax.beam.command_line import LOCAL_RUNNER
from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.sources import own_files

_TARGET = 3
_NUM_FILES = 4
_NUM_WORKERS = 2


def write_shop(folder: Path, num_events: int) -> None:
  """Writes a random shop with several files of interactions."""
  data.write_shop(folder, num_events, 'csv')
  whole = folder / 'interactions.csv'
  table = csv.read_csv(whole)
  (folder / 'interactions').mkdir()
  size = -(-len(table) // _NUM_FILES)
  for i in range(_NUM_FILES):
    part = table.slice(i * size, size)
    csv.write_csv(part, folder / 'interactions' / f'part-{i}.csv')
  whole.unlink()


def run_pipeline(folder: Path, out: Path) -> tuple[float, float]:
  """Returns the seconds of `prepare`, and the largest peak of a process in MiB.

  Raises:
    subprocess.CalledProcessError: The command failed.
  """
  command = [
    sys.executable, '-m', 'tiger_jax.beam', 'prepare',
    '--config=configs/own_data.py', f'--config.dataset.source_dir={folder}',
    f'--out={out}', f'--runner={LOCAL_RUNNER}',
    f'--direct_num_workers={_NUM_WORKERS}',
    '--direct_running_mode=multi_processing',
  ]  # fmt: skip
  start = time.perf_counter()
  peak = 0.0
  with subprocess.Popen(
    command, stdout=subprocess.DEVNULL, start_new_session=True
  ) as process:
    while process.poll() is None:
      peak = max([peak, *_peaks(process.pid)])
      time.sleep(0.2)
  if process.returncode:
    raise subprocess.CalledProcessError(process.returncode, command)
  return time.perf_counter() - start, peak


def _peaks(session: int) -> Iterator[float]:
  """Yields the peaks of memory of the processes of a session, in MiB."""
  for path in Path('/proc').glob('[0-9]*'):
    try:
      if os.getsid(int(path.name)) == session:
        peak = (path / 'status').read_text().partition('VmHWM:')[2]
        yield int(peak.split()[0]) / 1024
    except (OSError, IndexError):  # The process has ended.
      continue


def check_equal(ours: Dataset, theirs: Dataset) -> None:
  """Raises `Mismatch` unless two datasets have the same content."""
  same = (
    ours.user_ids == theirs.user_ids
    and ours.items.ids == theirs.items.ids
    and ours.items.fields == theirs.items.fields
    and all(
      np.array_equal(getattr(ours, x), getattr(theirs, x))
      for x in ('history', 'offsets', 'timestamps')
    )
  )
  if not same:
    raise measuring.Mismatch('the datasets differ')


def main() -> int:
  """Prints the table, and returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--quick', action='store_true')
  num_events = 10**6 if parser.parse_args().quick else 10**7
  measuring.use_cores(2)
  print(measuring.environment('apache-beam', 'pyarrow') + '\n')
  with tempfile.TemporaryDirectory() as scratch:
    folder, out = Path(scratch, 'raw'), Path(scratch, 'prepared')
    folder.mkdir()
    write_shop(folder, num_events)
    start = time.perf_counter()
    single = data.in_process('prepare', folder)
    single_seconds = time.perf_counter() - start
    seconds, peak = run_pipeline(folder, out)
    config = DatasetConfig(name='files', source_dir=str(out))
    check_equal(own_files.load(config), Dataset.load(folder / 'data'))
  ratio = seconds / single_seconds
  row = [
    f'{num_events:,}', f'{single_seconds:.1f}', f'{single["peak_mib"]:,.0f}',
    f'{seconds:.1f}', f'{peak:,.0f}', f'{ratio:.2f}',
  ]  # fmt: skip
  header = [
    'events', 'one machine, s', 'MiB', f'Beam, {_NUM_WORKERS} workers, s',
    'MiB per process', 'ratio',
  ]  # fmt: skip
  print(measuring.table(header, [row]))
  if ratio > _TARGET:
    print(f'missed: ratio {ratio:.2f}, the target is {_TARGET}')
  return int(ratio > _TARGET)


if __name__ == '__main__':
  sys.exit(main())
