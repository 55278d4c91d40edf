"""Tests that a trained model runs on fewer devices than in training."""

import json

import pytest

from tests import small, typed

FLAGS = (
  *small.FLAGS,
  '--config.parallel.fsdp=2',
  '--config.parallel.tensor=2',
  '--config.train.replicas=2',
)
RECOMMEND = """
import json
from tiger_jax.serving.recommender import Recommender
items = Recommender.from_workdir('run').recommend(['A001', 'A008'], 10)
print(json.dumps([[entry.item_id, entry.score] for entry in items]))
"""


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('devices')
  small.make(folder / 'shop')
  done = run(folder, 4, '--mode=train')
  assert done.code == 0, done.err
  return folder


def run(folder, num_devices, *flags):
  return typed.run(
    *FLAGS,
    '--config.dataset.source_dir=shop',
    '--workdir=run',
    *flags,
    cwd=folder,
    env={'JAX_NUM_CPU_DEVICES': str(num_devices)},
  )


def recommend(folder, num_devices):
  done = typed.python(
    '-c', RECOMMEND, cwd=folder, env={'JAX_NUM_CPU_DEVICES': str(num_devices)}
  )
  assert done.code == 0, done.err
  return json.loads(done.out.splitlines()[-1])


def test_recommends_the_same_on_any_number_of_devices(folder):
  expected_items, expected_scores = zip(*recommend(folder, 4), strict=True)
  assert len(expected_items) == 10
  for num_devices in (1, 3):
    items, scores = zip(*recommend(folder, num_devices), strict=True)
    assert items == expected_items
    assert scores == pytest.approx(expected_scores)


@pytest.mark.slow
def test_evaluates_on_a_different_number_of_devices(folder):
  done = run(folder, 3, '--mode=evaluate')
  assert done.code == 0, done.err
  assert (folder / 'run' / 'results.json').exists()


def test_refuses_to_train_on_an_unsuitable_number_of_devices(tmp_path):
  small.make(tmp_path / 'shop')
  refusal = run(tmp_path, 3, '--mode=train').refusal
  assert 'fsdp x tensor is 2 x 2, which does not divide' in refusal
  assert 'the number of devices, 3:' in refusal
  assert not list((tmp_path / 'run').glob('data*'))
