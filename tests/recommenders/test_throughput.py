"""The report of the training speed."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tiger_jax.config import Config, ModelConfig, TrainConfig
from tiger_jax.data import batches
from tiger_jax.data.batches import TrainBatches
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import checks, throughput
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session, training_examples
from tiger_jax.recommenders.throughput import peak_flops
from tiger_jax.semantic_ids.ids import SemanticIds

_MEASURED = functools.cache(peak_flops)
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


@pytest.fixture(autouse=True)
def _measure_the_peak_once(monkeypatch):
  monkeypatch.setattr(throughput, 'peak_flops', _MEASURED)


@pytest.mark.parametrize(
  ('causal_encoder', 'resident', 'widths'),
  [(False, False, (3, 6)), (True, True, (6,))],
)
def test_measured_values_are_consistent(
  inputs, causal_encoder, resident, widths
):
  model = dataclasses.replace(CONFIG.model, causal_encoder=causal_encoder)
  config = dataclasses.replace(CONFIG, model=model)
  source = TrainBatches(
    inputs.dataset, training_examples(config, inputs.dataset), 16, widths, 0, 2,
    resident_bytes=2**30 if resident else 0,
  )  # fmt: skip
  session = Session.open(config, inputs, source)
  report = throughput.measure(session, seconds=0.1)
  assert report['sequences/s'] == pytest.approx(16 * report['steps/s'])
  # Every target and every history item has two codes.
  items = report['tokens/s, no padding counted'] / 2 - report['targets/s']
  if causal_encoder:
    assert items == pytest.approx(report['targets/s'])
    assert report['targets/s'] > report['sequences/s']
  else:
    assert report['targets/s'] == report['sequences/s']
    assert report['sequences/s'] < items < 6 * report['sequences/s']
  assert 0 < report['share of padding'] < 1
  assert 0 < report['MFU'] < 1
  table = throughput.format_table(report)
  assert all(name in table for name in report)


@pytest.mark.parametrize('resident', [True, False])
def test_a_report_of_packed_rows_counts_histories(
  inputs, resident, monkeypatch
):
  if not resident:
    monkeypatch.setattr(batches, 'RESIDENT_BYTES', 0)
  model = dataclasses.replace(CONFIG.model, causal_encoder=True)
  train = dataclasses.replace(CONFIG.train, packed=True)
  config = dataclasses.replace(CONFIG, model=model, train=train)
  session = Session.open(config, inputs)
  assert (session.batches.events is not None) == resident
  report = throughput.measure(session, seconds=0.1)
  # A row holds more than one history, and almost no padding.
  assert report['sequences/s'] > 17 * report['steps/s']
  share = 1 - report['share of padding']
  assert 0.9 < share <= 1
  targets = share * 16 * 6 * report['steps/s']
  assert report['targets/s'] == pytest.approx(targets)
  items = report['tokens/s, no padding counted'] / 2 - report['targets/s']
  assert items == pytest.approx(report['targets/s'])


def test_a_baseline_has_a_profile_and_a_report_without_mfu(inputs, tmp_path):
  model = dataclasses.replace(CONFIG.model, name='sasrec')
  train = dataclasses.replace(CONFIG.train, length_buckets=(6,))
  config = dataclasses.replace(CONFIG, model=model, train=train)
  session = Session.open(config, inputs)
  report = throughput.measure(session, tmp_path, seconds=0)
  assert list(tmp_path.rglob('*.xplane.pb'))
  assert report['targets/s'] > report['sequences/s'] > 0
  assert 'MFU' not in report


def test_a_model_without_training_is_refused(inputs):
  model = dataclasses.replace(CONFIG.model, name='popularity')
  with pytest.raises(UsageError, match="'popularity', which is not trained"):
    throughput.measure(
      Session.open(dataclasses.replace(CONFIG, model=model), inputs), seconds=0
    )


def test_a_batch_size_that_devices_cannot_share_evenly_is_refused(inputs):
  assert len(jax.devices()) == 8
  train = dataclasses.replace(CONFIG.train, batch_size=20)
  config = dataclasses.replace(CONFIG, train=train)
  with pytest.raises(UsageError) as error:
    throughput.measure(Session.open(config, inputs), seconds=0)
  assert 'batch_size is 20' in str(error.value)
  assert 'try 16' in str(error.value)
  assert '\n' not in str(error.value)


def test_a_tensor_size_that_does_not_divide_the_devices_is_refused():
  parallel = dataclasses.replace(CONFIG.parallel, tensor=3)
  config = dataclasses.replace(CONFIG, parallel=parallel)
  with pytest.raises(UsageError, match='number of devices, 8'):
    checks.check_devices(config)


def test_a_known_device_has_a_stated_peak(monkeypatch):
  class Device:
    device_kind = 'TPU v5 lite'

  monkeypatch.setattr(jax, 'devices', lambda: [Device()])
  assert peak_flops() == (197e12, 'stated, bfloat16')
