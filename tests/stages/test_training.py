"""Tests of the training stage, without training."""

import dataclasses

import pytest

from tiger_jax.config import (
  Config,
  EvaluationConfig,
  ModelConfig,
  ParallelConfig,
  TrainConfig,
)
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.stages import training
from tiger_jax.storage.artifacts import run_stage

CONFIG = Config(
  model=ModelConfig(name='popularity', max_history=3),
  train=TrainConfig(length_buckets=(3,)),
)


def test_a_model_without_training_needs_no_checkpoint(tmp_path):
  session = Session.open(CONFIG, Inputs(synthetic.make(20, seed=0)))
  writer = MetricsWriter(tmp_path / 'run')
  folder = tmp_path / 'train'
  folder.mkdir()
  training.build(session, folder, writer)
  writer.close()
  assert not list(folder.iterdir())
  assert training.load(session, folder) == ({}, 0)
  assert training.load_served(session, folder) == (session, {}, None)


def test_a_baseline_of_an_ensemble_experiment_is_served_alone():
  # The base config of an experiment is also that of its baselines.
  config = dataclasses.replace(
    CONFIG, evaluation=EvaluationConfig(ensemble=True)
  )
  session = Session.open(config, Inputs(synthetic.make(20, seed=0)))
  assert training.served(session, {'w': 1}, 0) == {'w': 1}


def test_is_finished_compares_the_settings(tmp_path):
  config = dataclasses.replace(CONFIG, model=ModelConfig(max_history=3))
  metadata = {'config': dataclasses.asdict(config)}
  assert not training.is_finished(config, [tmp_path])
  run_stage(tmp_path, 'train', 64 * 'a', lambda folder: None, metadata=metadata)
  # The first training was set aside, but it still counts as finished.
  run_stage(tmp_path, 'train', 64 * 'b', lambda folder: None, metadata={})
  assert training.is_finished(config, [tmp_path / 'other', tmp_path])
  spread = dataclasses.replace(config, parallel=ParallelConfig(2, 2))
  assert training.is_finished(spread, [tmp_path])
  changed = dataclasses.replace(config, seed=1)
  assert not training.is_finished(changed, [tmp_path])
  assert training.is_finished(CONFIG, [])  # Popularity is not trained.


@pytest.mark.parametrize(
  ('batch_size', 'tensor', 'suggestion'),
  [(8, 1, None), (12, 1, 8), (3, 1, 8), (12, 2, None), (6, 2, 4)],
)
def test_eight_devices_must_share_a_batch_evenly(
  batch_size, tensor, suggestion
):
  config = dataclasses.replace(
    CONFIG,
    parallel=ParallelConfig(tensor=tensor),
    train=TrainConfig(batch_size=batch_size, length_buckets=(3,)),
  )
  if suggestion is None:
    checks.check_devices(config)
    return
  with pytest.raises(UsageError) as error:
    checks.check_devices(config)
  message = str(error.value)
  assert f'config.train.batch_size is {batch_size}, which' in message
  assert message.endswith(f'try {suggestion}')
