"""Tests of runs that fail, are stopped or are killed, and then run again."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests import small
from tests.end_to_end.program import (
  FOLDERS,
  SHOP,
  artifacts,
  assert_same_model,
  clone,
  program,
)
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.stages import embedding

pytestmark = pytest.mark.usefixtures('one_device')


def test_an_embedding_that_is_not_finite_is_refused(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  build = embedding.build
  with pytest.MonkeyPatch.context() as patch:

    def broken(config, items, folder):
      build(config, items, folder)
      vectors = np.load(folder / 'embeddings.npy')
      vectors[7, 3] = np.nan
      np.save(folder / 'embeddings.npy', vectors)

    patch.setattr(embedding, 'build', broken)
    assert program(workdir, *SHOP, '--config.embedding.dim=7') == 5
  err = capfd.readouterr().err
  assert err.splitlines()[-1].startswith('error: ')
  assert 'row 7' in err


def test_the_same_command_resumes_after_sigterm(shop, tmp_path, capfd):
  workdir = clone(shop, tmp_path / 'run')
  subprocess.run(['rm', '-r', workdir / 'train'], check=True)
  (workdir / 'results.json').unlink()
  write = MetricsWriter.write

  def ask_to_stop(self, stage, step, values):
    write(self, stage, step, values)
    if (stage, step) == ('train', 15):
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(MetricsWriter, 'write', ask_to_stop)
    assert program(workdir, *SHOP) == 42
  err = capfd.readouterr().err.splitlines()
  # The signal arrives while the metrics of step 15 are written. The loop has
  # already checked for signals in this step, so it stops after step 16.
  assert err[-1] == (
    'train: stopped by SIGTERM at step 16, saved; run the same command to '
    'resume'
  )
  assert not (workdir / 'train').exists()
  assert not (workdir / 'results.json').exists()
  assert program(workdir, *SHOP) == 0
  assert_same_model(workdir, shop, stopped=16)


KILLED = """
import os, pathlib, signal, sys, time
from tiger_jax import main
from tiger_jax.runtime.writers import MetricsWriter

write = MetricsWriter.write

def die(self, stage, step, values):
  write(self, stage, step, values)
  if (stage, step) == ('train', 15):
    workdir = pathlib.Path(sys.argv[1].removeprefix('--workdir='))
    while not list(workdir.glob('train.partial-*/checkpoints/10')):
      time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

MetricsWriter.write = die
main.main()
"""


def test_the_same_command_resumes_after_sigkill(shop, tmp_path):
  workdir = tmp_path / 'run'
  done = subprocess.run(
    [sys.executable, '-c', KILLED, f'--workdir={workdir}', *SHOP],
    env=os.environ
    | {
      'PYTHONPATH': str(small.ROOT),
      'JAX_PLATFORMS': 'cpu',
      # One device, as in `shop`, because the number of devices changes the
      # order of sums.
      'JAX_NUM_CPU_DEVICES': '1',
    },
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    check=False,
    timeout=300,
  )
  assert done.returncode == -signal.SIGKILL
  assert (workdir / 'semantic_ids').exists()
  assert not (workdir / 'train').exists()
  assert not (workdir / 'results.json').exists()
  before = artifacts(workdir, FOLDERS[:3])
  assert program(workdir, *SHOP) == 0
  assert artifacts(workdir, FOLDERS[:3]) == before
  (goodput,) = (workdir / 'train' / 'goodput.jsonl').read_text().splitlines()
  assert json.loads(goodput)['from'] == 10
  assert_same_model(workdir, shop)
