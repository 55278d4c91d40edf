"""Measures training on histories that are read from shards.

  python -m benchmarks.shards --scratch=FOLDER

The command writes random histories of 1, 4 and 16 million users as shards, and
trains a small TIGER on each dataset. FOLDER needs 2 GB of free space. `--quick`
measures 1 and 4 million users in two minutes. Each dataset is measured in a
process of its own, which reports the share of time in which training waited for
batches. The process then reads batches of all shards, without training, and
reports the rate and its peak memory. The files are in the page cache.

The command exits with code 1 if a figure misses its target, and names the
figure.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import json
import multiprocessing
from pathlib import Path
import sys
import tempfile
import time

from absl import flags
import numpy as np

from benchmarks import measuring, requests, training
from configs import beauty
from tiger_jax.config import Config, config_dict
from tiger_jax.data import batches, splits, training_shards
from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.packing import PackedBatches
from tiger_jax.data.training_shards import TrainingShards
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.training import loop

_MILLION = 10**6
_NUM_ITEMS = 100_000
_LEVEL_SIZES = (256,) * 4
_PER_SHARD = 2**18
_WIDTH = 10
_BATCH_SIZE = 64
# The number of calls whose batches are read without training.
_NUM_CALLS = 200
# The targets: the share of time waiting for batches, and the peak memory with
# the most users relative to that with a million.
_MOST_WAIT, _MOST_GROWTH = 0.02, 1.1
_IDS = tuple(map(str, range(_NUM_ITEMS)))


def write(folder: Path, num_users: int) -> tuple[float, float]:
  """Writes a history for each user; returns seconds, and bytes per user."""
  rng = np.random.default_rng(num_users)
  folder.mkdir()
  written = []
  start = time.perf_counter()
  for shard, first in enumerate(range(0, num_users, _PER_SHARD)):
    num = min(_PER_SHARD, num_users - first)
    lengths = np.minimum(1 + rng.geometric(0.25, num), _WIDTH)
    end = np.cumsum(lengths + 1) - 1
    history = rng.integers(0, _NUM_ITEMS, int(end[-1]) + 1, np.int32)
    examples = splits.Examples(np.zeros_like(end), end - lengths, end)
    path = folder / training_shards.name(shard)
    written.append(training_shards.write_shard(path, history, examples, _WIDTH))
  seconds = time.perf_counter() - start
  ones = np.ones(_NUM_ITEMS, np.int64)
  counts, digests = zip(*written, strict=True)
  training_shards.write_index(folder, np.stack(counts), ones, _IDS, digests)
  size = sum(path.stat().st_size for path in folder.iterdir())
  return seconds, size / num_users


def measure(folder: Path, num_steps: int) -> dict[str, float]:
  """Trains on the shards of a folder, and reads batches of two epochs."""
  measuring.use_cores(2)
  flags.FLAGS.mark_as_parsed()  # Grain reads absl flags.
  small = config_dict.parse(beauty.get_config('cpu'))
  config = training.change(small, 'train', packed=True, batch_size=_BATCH_SIZE)
  dataset = Dataset(
    'random', Items(_IDS, {}), ('u',), np.zeros(3, np.int32), np.array([0, 3]),
    training_counts=np.ones(_NUM_ITEMS, np.int64),
  )  # fmt: skip
  inputs = Inputs(dataset, requests.random_ids(_NUM_ITEMS, _LEVEL_SIZES))
  peaks: list[tuple[float, float]] = []
  with (
    measuring.watched(peaks),
    tempfile.TemporaryDirectory() as scratch,
    contextlib.redirect_stdout(sys.stderr),
  ):
    source = open_shards(folder, config)
    session = Session.open(config, inputs, source)
    # Imports Grain, which takes seconds.
    next(batches.prefetch(source, 0, source.steps_per_call))
    loop.train(
      session.training_task,
      functools.partial(batches.prefetch, session.own_batches),
      loop.Schedule(num_steps, config.train.log_every, num_steps),
      config.train.optimizer, seeds=session.seeds, mesh=session.mesh,
      folder=Path(scratch), writer=MetricsWriter(Path(scratch)), label='train',
      identity={},
    )  # fmt: skip
    goodput = json.loads(Path(scratch, 'goodput.jsonl').read_text())['seconds']
    # These batches are in all shards, and each shard is opened several times.
    size = source.steps_per_call
    calls = np.linspace(
      0, 2 * source.steps_per_epoch // size, _NUM_CALLS, False
    )
    start = time.perf_counter()
    stacks = [source.stack(x * size, (x + 1) * size) for x in calls.astype(int)]
    seconds = time.perf_counter() - start
  num_read = sum(int(x.plan.is_last.sum()) for x in stacks)
  return {
    'peak': peaks[0][0],
    'wait': goodput['data'] / (goodput['data'] + goodput['step']),
    'step': 1000 * goodput['step'] / num_steps,
    'rate': num_read / seconds,
  }


def open_shards(folder: Path, config: Config) -> PackedBatches:
  """Returns the batches of a folder, which are always read from disk."""
  histories = TrainingShards(folder, 'random', _IDS, _WIDTH, resident_bytes=0)
  return PackedBatches(
    histories, _BATCH_SIZE, config.seed, config.train.steps_per_call
  )


def main() -> int:
  """Prints the table, and returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--scratch', type=Path, default=Path('runs/benchmarks'))
  parser.add_argument('--quick', action='store_true')
  options = parser.parse_args()
  options.scratch.mkdir(parents=True, exist_ok=True)
  print(measuring.environment())
  rows, found = [], []
  for millions in (1, 4) if options.quick else (1, 4, 16):
    with (
      tempfile.TemporaryDirectory(dir=options.scratch) as scratch,
      # A new process for each dataset, so that its peak memory is its own.
      concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn')
      ) as process,
    ):
      folder = Path(scratch) / training_shards.FOLDER
      seconds, size = write(folder, millions * _MILLION)
      num_steps = 200 if options.quick else 800
      found.append(process.submit(measure, folder, num_steps).result())
    x = found[-1]
    rows.append([
      f'{millions} million users', f'{size:.0f}',
      f'{millions * _MILLION / seconds:,.0f}', f'{x["peak"]:,.0f}',
      f'{x["step"]:.1f}', f'{x["wait"]:.2%}', f'{x["rate"]:,.0f}',
    ])  # fmt: skip
  header = ['', 'bytes per history', 'written per second', 'peak memory, MiB',
            'step, ms', 'share of time waiting for batches',
            'histories read per second']  # fmt: skip
  print(measuring.table(header, rows))
  wait = max(x['wait'] for x in found)
  growth = found[-1]['peak'] / found[0]['peak']
  missed = []
  if wait > _MOST_WAIT:
    missed.append(f'training waits {wait:.2%} of the time for batches')
  if growth > _MOST_GROWTH:
    missed.append(f'memory grows by a factor of {growth:.2f}')
  for line in missed:
    print(f'missed: {line}', file=sys.stderr)
  return 1 if missed else 0


if __name__ == '__main__':
  sys.exit(main())
