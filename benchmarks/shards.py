"""Measures training on histories that are read from shards.

  python -m benchmarks.shards --scratch=FOLDER

The command writes random histories of 1, 4 and 16 million users as shards, and
trains a small TIGER on each dataset. FOLDER needs 2 GB of free space. `--quick`
measures 1 and 4 million users in two minutes. Each dataset is measured in a
process of its own, which reports its peak memory, the share of time in which
training waited for batches, and the rate at which batches are read without
training.
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
_IDS = tuple(map(str, range(_NUM_ITEMS)))


def write(folder: Path, num_users: int) -> tuple[float, float]:
  """Writes a history for each user; returns seconds, and bytes per user."""
  rng = np.random.default_rng(num_users)
  folder.mkdir()
  counts = []
  start = time.perf_counter()
  for shard, first in enumerate(range(0, num_users, _PER_SHARD)):
    num = min(_PER_SHARD, num_users - first)
    lengths = np.minimum(1 + rng.geometric(0.25, num), _WIDTH)
    end = np.cumsum(lengths + 1) - 1
    history = rng.integers(0, _NUM_ITEMS, int(end[-1]) + 1, np.int32)
    examples = splits.Examples(np.zeros_like(end), end - lengths, end)
    path = folder / training_shards.name(shard)
    counts.append(training_shards.write_shard(path, history, examples, _WIDTH))
  seconds = time.perf_counter() - start
  ones = np.ones(_NUM_ITEMS, np.int64)
  training_shards.write_index(folder, np.stack(counts), ones, _IDS)
  size = sum(path.stat().st_size for path in folder.iterdir())
  return seconds, size / num_users


def measure(folder: Path, num_steps: int) -> dict[str, float]:
  """Trains on the shards of a folder, and reads further batches."""
  measuring.use_cores(2)
  flags.FLAGS.mark_as_parsed()  # Grain reads absl flags.
  small = config_dict.parse(beauty.get_config('cpu'))
  config = training.change(small, 'train', packed=True, batch_size=_BATCH_SIZE)
  source = open_shards(folder, config)
  dataset = Dataset(
    'random', Items(_IDS, {}), ('u',), np.zeros(3, np.int32), np.array([0, 3]),
    training_counts=np.ones(_NUM_ITEMS, np.int64),
  )  # fmt: skip
  inputs = Inputs(dataset, requests.random_ids(_NUM_ITEMS, _LEVEL_SIZES))
  session = Session.open(config, inputs, source)
  peaks: list[tuple[float, float]] = []
  with (
    measuring.watched(peaks),
    tempfile.TemporaryDirectory() as scratch,
    contextlib.redirect_stdout(sys.stderr),
  ):
    loop.train(
      session.training_task,
      functools.partial(batches.prefetch, session.own_batches),
      loop.Schedule(num_steps, config.train.log_every, num_steps),
      config.train.optimizer, seeds=session.seeds, mesh=session.mesh,
      folder=Path(scratch), writer=MetricsWriter(Path(scratch)), label='train',
      identity={},
    )  # fmt: skip
    goodput = json.loads(Path(scratch, 'goodput.jsonl').read_text())['seconds']
  start = time.perf_counter()
  stacks = list(batches.prefetch(source, num_steps, 3 * num_steps))
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


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--scratch', type=Path, default=Path('runs/benchmarks'))
  parser.add_argument('--quick', action='store_true')
  options = parser.parse_args()
  options.scratch.mkdir(parents=True, exist_ok=True)
  print(measuring.environment())
  rows = []
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
      found = process.submit(
        measure, folder, 200 if options.quick else 800
      ).result()
    rows.append([
      f'{millions} million users', f'{size:.0f}',
      f'{millions * _MILLION / seconds:,.0f}', f'{found["peak"]:,.0f}',
      f'{found["step"]:.1f}', f'{found["wait"]:.2%}', f'{found["rate"]:,.0f}',
    ])  # fmt: skip
  header = ['', 'bytes per history', 'written per second', 'peak memory, MiB',
            'step, ms', 'share of time waiting for batches',
            'read per second without training']  # fmt: skip
  print(measuring.table(header, rows))


if __name__ == '__main__':
  main()
