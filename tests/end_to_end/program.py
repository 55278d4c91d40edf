"""Helpers that run the program in this process, on a small shop and model."""

from collections.abc import Iterator
import contextlib
import json
import subprocess
import sys

from absl.testing import flagsaver
import jax
import pytest

from tests import small
from tiger_jax import main
from tiger_jax.config import flags as _flags  # noqa: F401  # Defines the flags.
from tiger_jax.runtime import sharding
from tiger_jax.serving.recommender import Recommender

SETTINGS = (
  *small.FLAGS[1:],
  '--config.semantic_ids.quantizer=rq_vae',
  '--config.semantic_ids.latent_dim=4',
  '--config.semantic_ids.hidden_dims=(16,)',
  '--config.semantic_ids.epochs=2',
  '--config.semantic_ids.restart_epochs=1',
  # Only a softmax over all codes gives shares of invalid IDs.
  '--config.model.softmax=all_codes',
  '--config.model.history_bias=False',
  '--config.train.batch_size=16',
  '--config.train.steps_per_call=1',
)
SHOP = (
  f'--config={small.ROOT}/configs/quickstart.py',
  '--config.dataset.synthetic_users=64',
  *SETTINGS,
)
FOLDERS = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')


def program(workdir, *arguments):
  """Runs the program in this process, and returns its exit code."""
  argv = ['main.py', f'--workdir={workdir}', *arguments]
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    patch.setattr(sys, 'argv', argv)
    try:
      main.main()
    except SystemExit as error:
      return error.code
  return 0


@contextlib.contextmanager
def one_device() -> Iterator[None]:
  """Uses one device, because eight would compete for a few CPU cores."""
  mesh = sharding.make_mesh(jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, 'make_mesh', lambda *unused, **more: mesh)
    yield


def artifacts(workdir, names=FOLDERS):
  """Returns the inode and the modification time of every file of the stages."""
  states = {}
  for name in names:
    for path in sorted((workdir / name).rglob('*')):
      stat = path.stat()
      states[str(path.relative_to(workdir))] = (stat.st_ino, stat.st_mtime_ns)
  return states


def read(path):
  return json.loads(path.read_text())


def logged(workdir):
  """Returns the logged lines without their times."""
  text = (workdir / 'metrics.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  return [{k: v for k, v in line.items() if k != 'time'} for line in lines]


def clone(workdir, target):
  """Copies a run with hard links. Replaced files do not change the original."""
  subprocess.run(['cp', '-al', workdir, target], check=True)
  return target


def assert_same_model(workdir, expected, stopped=20):
  results, other = (read(x / 'results.json') for x in (workdir, expected))
  # A different process may round the reconstruction error differently.
  rounded = 'reconstruction_error'
  assert results['semantic_ids'].pop(rounded) == pytest.approx(
    other['semantic_ids'].pop(rounded), rel=1e-6
  )
  for name in ('dataset', 'semantic_ids', 'metrics', 'baselines'):
    assert results[name] == other[name]
  histories = [['P0001', 'P0002'], ['P0003']]
  one, two = (
    Recommender.from_workdir(x).recommend_batch(histories)
    for x in (workdir, expected)
  )
  assert one == two
  lines = logged(workdir)
  steps = {x['step'] for x in lines if x['stage'] == 'train'}
  assert steps == {5, 10, 15, 20, stopped}
  assert [x for x in lines if 'ndcg@10' in x] == [
    x for x in logged(expected) if 'ndcg@10' in x
  ]
