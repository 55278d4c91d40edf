"""How fast training is told to be."""

import dataclasses

import jax
import numpy as np
import pytest

from tiger_jax.config import Config, ModelConfig, TrainConfig
from tiger_jax.data import batches
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks, throughput
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.semantic_ids.ids import SemanticIds

CONFIG = Config(
  model=ModelConfig(
    max_history=6,
    d_model=8,
    num_heads=1,
    head_dim=8,
    mlp_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
  ),
  train=TrainConfig(
    batch_size=16, steps=10, steps_per_call=2, length_buckets=(3, 6)
  ),
)


@pytest.fixture(name='inputs', scope='module')
def _shop():
  dataset = synthetic.make(60, seed=0)
  rows = np.arange(dataset.num_items)
  codes = np.stack(np.unravel_index(rows, (30, 30)), 1).astype(np.int32)
  return Inputs(dataset, SemanticIds(codes, (30, 30), 2, {}))


@pytest.mark.parametrize('resident', [True, False])
@pytest.mark.parametrize('causal_encoder', [False, True])
def test_figures_fit_together(inputs, causal_encoder, resident, monkeypatch):
  if not resident:
    monkeypatch.setattr(batches, '_RESIDENT_BYTES', 0)
  model = dataclasses.replace(CONFIG.model, causal_encoder=causal_encoder)
  config = dataclasses.replace(CONFIG, model=model)
  found = throughput.measure(Session.open(config, inputs), seconds=0.1)
  assert found['sequences/s'] == pytest.approx(16 * found['steps/s'])
  # Targets have two codes each, and so does every item that is read.
  items = found['tokens/s, no padding counted'] / 2 - found['targets/s']
  if causal_encoder:
    assert items == pytest.approx(found['targets/s'])
    assert found['targets/s'] > found['sequences/s']
  else:
    assert found['targets/s'] == found['sequences/s']
    assert found['sequences/s'] < items < 6 * found['sequences/s']
  assert 0 < found['share of padding'] < 1
  assert 0 < found['MFU'] < 1
  table = throughput.format_table(found)
  assert all(name in table for name in found)


def test_a_baseline_has_no_tokens(inputs):
  model = dataclasses.replace(CONFIG.model, name='sasrec')
  found = throughput.measure(
    Session.open(dataclasses.replace(CONFIG, model=model), inputs), seconds=0
  )
  assert found['targets/s'] > found['sequences/s'] > 0
  assert 'MFU' not in found


def test_what_learns_nothing_has_no_speed(inputs):
  model = dataclasses.replace(CONFIG.model, name='popularity')
  with pytest.raises(UsageError, match="'popularity', which has no training"):
    throughput.measure(
      Session.open(dataclasses.replace(CONFIG, model=model), inputs), seconds=0
    )


def test_profile_is_written(inputs, tmp_path):
  throughput.measure(Session.open(CONFIG, inputs), tmp_path, seconds=0)
  assert list(tmp_path.rglob('*.xplane.pb'))


def test_a_batch_that_devices_cannot_share_is_one_line(inputs):
  assert len(jax.devices()) == 8
  train = dataclasses.replace(CONFIG.train, batch_size=20)
  config = dataclasses.replace(CONFIG, train=train)
  with pytest.raises(UsageError) as error:
    throughput.measure(Session.open(config, inputs), seconds=0)
  assert 'batch_size is 20' in str(error.value)
  assert 'try 16' in str(error.value)
  assert '\n' not in str(error.value)


def test_devices_that_cannot_be_divided_are_one_line():
  parallel = dataclasses.replace(CONFIG.parallel, tensor=3)
  config = dataclasses.replace(CONFIG, parallel=parallel)
  with pytest.raises(UsageError, match='number of devices, 8'):
    checks.check_devices(config)


def test_a_known_device_has_a_stated_peak(monkeypatch):
  class Device:
    device_kind = 'TPU v5 lite'

  monkeypatch.setattr(jax, 'devices', lambda: [Device()])
  assert throughput.peak_flops() == (197e12, 'stated, bfloat16')
