"""How models are judged, against plain loops over users."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from tests import by_hand
from tiger_jax.config import (
  Config,
  EvaluationConfig,
  ModelConfig,
  ParallelConfig,
  TrainConfig,
)
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.registry import Material
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import learning, stages
from tiger_jax.storage.artefacts import run_stage

# Histories are longer than what the model reads, but not than what is left out.
CONFIG = Config(
  model=ModelConfig(name='popularity', max_history=3),
  train=TrainConfig(length_buckets=(2, 3)),
  evaluation=EvaluationConfig(batch_size=64),
)


@pytest.fixture(name='material', scope='module')
def _material():
  """A shop on which all metrics of popularity differ between splits."""
  dataset = synthetic.make(400, seed=0)
  validation, test, masked = (
    by_hand.popularity(dataset, split(dataset, name), masked)
    for name, masked in (
      ('validation', False), ('test', False), ('test', True)
    )
  )  # fmt: skip
  for name, value in test.items():
    assert len({value, validation[name], masked[name]}) == 3
  return Material(dataset)


@pytest.mark.parametrize('some', [0, 50])
@pytest.mark.parametrize('unseen', [False, True])
def test_popularity_user_by_user(material, unseen, some):
  examples = learning.some(split(material.dataset, 'test'), some, seed=1)
  retriever = registry.make_retriever(
    CONFIG, material, learning.make_mesh(CONFIG), CONFIG.evaluation
  )
  measure = learning.measure_masked if unseen else learning.measure
  found = measure(CONFIG, material, retriever, {}, examples)
  expected = by_hand.popularity(material.dataset, examples, unseen)
  assert found == pytest.approx(expected)
  assert len(examples.user) == (some or 400)


def test_what_learns_nothing_needs_no_checkpoint(material, tmp_path):
  writer = MetricsWriter(tmp_path / 'run')
  folder = tmp_path / 'train'
  folder.mkdir()
  learning.train(CONFIG, material, folder, writer)
  writer.close()
  assert not list(folder.iterdir())
  assert learning.restore_params(CONFIG, material, folder) == ({}, 0)


@pytest.mark.parametrize('max_history', [3, 50])
def test_every_training_target_counts_the_same(material, max_history):
  dataset = material.dataset
  rows = np.arange(dataset.num_items)
  codes = np.stack(np.unravel_index(rows, (40, 40)), 1).astype(np.int32)
  ids = SemanticIds(codes, (40, 40), 2, {})
  model = ModelConfig(max_history=max_history, causal_encoder=True)
  train = TrainConfig(length_buckets=(max_history,))
  config = dataclasses.replace(CONFIG, model=model, train=train)
  task = registry.make_task(config, material._replace(ids=ids))
  num_examples = len(registry.make_examples(config, dataset).user)
  num_targets = len(split(dataset, 'train').user)
  assert task.mean_targets * num_examples == pytest.approx(num_targets)


@pytest.mark.parametrize(
  ('num_devices', 'asked', 'shape'),
  [
    (8, (2, 2), (2, 2, 2)),
    (8, (8, 1), (1, 8, 1)),
    (1, (2, 4), (1, 1, 1)),
    (3, (2, 2), (3, 1, 1)),
    (6, (2, 4), (3, 1, 2)),
    (6, (4, 3), (1, 2, 3)),
  ],
)
def test_any_number_of_devices_has_a_mesh(
  monkeypatch, num_devices, asked, shape
):
  devices = jax.devices()[:num_devices]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  parallel = ParallelConfig(*asked)
  config = dataclasses.replace(
    CONFIG,
    parallel=parallel,
    train=TrainConfig(batch_size=120, length_buckets=(3,)),
  )
  mesh = learning.make_mesh(config)
  assert tuple(mesh.shape.values()) == shape
  if shape[1:] == asked:
    learning.check_devices(config)
  else:
    with pytest.raises(UsageError, match='does not divide the number of dev'):
      learning.check_devices(config)


def test_a_finished_training_is_found_by_its_settings(tmp_path):
  config = dataclasses.replace(CONFIG, model=ModelConfig(max_history=3))
  about = {'config': dataclasses.asdict(config)}
  assert not stages.is_trained(config, [tmp_path])
  run_stage(tmp_path, 'train', 64 * 'a', lambda folder: None, about=about)
  # A training that was set aside is found as well.
  run_stage(tmp_path, 'train', 64 * 'b', lambda folder: None, about={})
  assert stages.is_trained(config, [tmp_path / 'other', tmp_path])
  spread = dataclasses.replace(config, parallel=ParallelConfig(2, 2))
  assert stages.is_trained(spread, [tmp_path])
  changed = dataclasses.replace(config, seed=1)
  assert not stages.is_trained(changed, [tmp_path])
  assert stages.is_trained(CONFIG, [])  # Popularity is not trained.


@pytest.mark.parametrize('every_prefix', [False, True])
def test_training_targets_are_all_events_but_the_held_out(
  material, every_prefix
):
  model = ModelConfig(max_history=3, causal_encoder=every_prefix)
  assert model.trains_every_prefix == every_prefix
  config = dataclasses.replace(CONFIG, model=model)
  examples = registry.make_examples(config, material.dataset)
  found = [
    target
    for start, end in zip(examples.start, examples.end, strict=True)
    for target in range(start + 1 if every_prefix else end, end + 1)
  ]
  offsets = material.dataset.offsets.tolist()
  # Nothing comes before a user's first event, and the last two are held out.
  assert sorted(found) == [
    target
    for first, stop in itertools.pairwise(offsets)
    for target in range(first + 1, stop - 2)
  ]


def test_some_examples_are_drawn_at_random(material):
  examples = split(material.dataset, 'validation')
  one, again, other = (
    learning.some(examples, 50, seed).user.tolist() for seed in (1, 1, 2)
  )
  assert one == again != other
  assert one == sorted(set(one)) and len(one) == 50
  # They are drawn from all users, not from the first ones.
  assert one[0] < 100 and one[-1] > 300
  assert learning.some(examples, 0, 1) is examples
