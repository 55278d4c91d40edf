"""Training on shards with several processes, which are killed and resumed."""

import json
import signal
import time

import numpy as np
import pytest

from tests import shards, small
from tests.runtime.test_processes import finish, start
from tiger_jax.config import DatasetConfig
from tiger_jax.data import loading, training_shards

NUM_SHARDS = 3
# Shards of any size are read from disk. Every process writes how many rows of a
# batch it reads.
PROGRAM = """
import os, runpy, sys, time
from tiger_jax.data import batches, training_shards
batches.RESIDENT_BYTES = 0
gather = training_shards.TrainingShards.gather
def count(self, excerpts):
  time.sleep(0.3)  # The run lasts until it is killed.
  rows = excerpts.is_last.any(axis=-1).sum(axis=-1)
  with open(f'{os.environ["ROWS"]}-{os.getpid()}', 'a') as file:
    file.write(''.join(f'{x}\\n' for x in rows.tolist()))
  return gather(self, excerpts)
training_shards.TrainingShards.gather = count
sys.argv[0] = 'tiger_jax.main'
runpy.run_module('tiger_jax.main', run_name='__main__')
"""
FLAGS = (
  *small.FLAGS,
  '--mode=evaluate',
  '--config.train.packed=True',
  '--config.train.steps=40',
  '--config.train.log_every=1',
  # Adam would amplify rounding errors of gradients near zero.
  '--config.train.optimizer.recipe=adagrad',
  '--config.train.optimizer.learning_rate=0.1',
  '--config.parallel.fsdp=2',
)


@pytest.fixture(name='shop')
def _shop(tmp_path):
  """Writes a dataset in shards, with all users for validation and test."""
  shop = tmp_path / 'shop'
  shop.mkdir()
  catalog = small.items(40)
  (shop / 'items.csv').write_text(small.as_csv(catalog))
  events = small.events(catalog, num_users=120)
  (shop / 'interactions.csv').write_text(small.as_csv(events))
  config = DatasetConfig(name='files', source_dir=str(shop))
  dataset = loading.load_dataset(config, 0)
  shards.write(shop / training_shards.FOLDER, dataset, 4, NUM_SHARDS)
  return shop


def command(shop, workdir, num_processes):
  flags = (
    *FLAGS,
    f'--config.dataset.source_dir={shop}',
    f'--workdir={workdir}',
  )
  return ('-c', PROGRAM, *flags, *['--distributed'][: num_processes > 1])


def begin(shop, workdir, num_processes):
  rows = workdir.with_name(f'{workdir.name}-rows-of-{num_processes}')
  return start(
    workdir, num_processes, command(shop, workdir, num_processes),
    ROWS=str(rows),
  )  # fmt: skip


def run(shop, workdir, num_processes):
  codes, errors = finish(begin(shop, workdir, num_processes))
  assert codes == [0] * num_processes, errors


def losses(workdir):
  """Maps the steps that were trained so far to their losses."""
  path = workdir / 'train' / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  rows = map(json.loads, lines)
  return {row['step']: row['loss'] for row in rows if 'loss' in row}


def recommended(workdir):
  with np.load(workdir / 'evaluation' / 'users.npz') as users:
    return users['items']


def test_four_processes_are_killed_and_two_end_like_one(shop, tmp_path):
  single, several = tmp_path / 'single', tmp_path / 'several'
  run(shop, single, 1)
  started = begin(shop, several, 4)
  deadline = time.monotonic() + 240
  # A checkpoint that is not complete has the suffix `.partial`.
  while not list(several.glob('train*/checkpoints/[1-4]0')):
    assert time.monotonic() < deadline
    assert all(x.poll() is None for x in started), finish(started)
    time.sleep(0.05)
  for process in started:
    process.send_signal(signal.SIGKILL)
  finish(started)
  assert not (several / 'train' / 'stage.json').exists()
  run(shop, several, 2)
  expected, found = losses(single), losses(several)
  # Five steps are one call, whose losses are logged together.
  assert found.keys() == expected.keys() == set(range(5, 41, 5))
  for step, loss in found.items():
    assert loss == pytest.approx(expected[step], rel=1e-5)
  ledgers = [(x / 'train' / 'ledger').read_bytes() for x in (single, several)]
  assert ledgers[0] == ledgers[1]
  assert np.array_equal(recommended(several), recommended(single))
  # The run was resumed, and every process read its part of a batch of 8 rows.
  goodput = (several / 'train' / 'goodput.jsonl').read_text().splitlines()
  assert json.loads(goodput[-1])['from'] >= 10
  for name, num_processes in (('single', 1), ('several', 4), ('several', 2)):
    paths = list(tmp_path.glob(f'{name}-rows-of-{num_processes}-*'))
    assert len(paths) == num_processes
    for path in paths:
      assert set(path.read_text().split()) == {str(8 // num_processes)}
  one, other = (
    json.loads((x / 'results.json').read_text())['metrics']
    for x in (single, several)
  )
  assert one['test'] == pytest.approx(other['test'], abs=1e-6)
