"""Tests the parts of a session, each of which is built only once."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.walks import make_dataset
from tiger_jax.config import (
  Config,
  EvaluationConfig,
  ModelConfig,
  ParallelConfig,
  TrainConfig,
)
from tiger_jax.data.packing import PackedBatches
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import split
from tiger_jax.errors import DataError, UsageError
from tiger_jax.recommenders.checks import check_devices
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session, training_examples
from tiger_jax.retrieval.mixture import Gate
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.training.look_up import LookUp


@pytest.fixture(name='inputs', scope='module')
def _inputs():
  dataset = synthetic.make(100, seed=0)
  rows = np.arange(dataset.num_items)
  codes = np.stack(np.unravel_index(rows, (40, 40)), 1).astype(np.int32)
  vectors = np.random.default_rng(0).normal(size=(dataset.num_items, 6))
  return Inputs(dataset, SemanticIds(codes, (40, 40), 2, {}), vectors)


def session(inputs, max_history=3, seed=0, batch_size=8, replicas=1, **model):
  model = ModelConfig(max_history=max_history, d_model=8, **model)
  train = TrainConfig(
    length_buckets=(max_history,), batch_size=batch_size, replicas=replicas
  )
  config = Config(seed=seed, model=model, train=train)
  return Session(config, inputs, make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
  ('num_devices', 'configured', 'shape'),
  [
    (8, (2, 2), (2, 2, 2)),
    (8, (8, 1), (1, 8, 1)),
    (1, (2, 4), (1, 1, 1)),
    (3, (2, 2), (3, 1, 1)),
    (6, (2, 4), (3, 1, 2)),
    (6, (4, 3), (1, 2, 3)),
  ],
)
def test_any_number_of_devices_forms_a_mesh(
  inputs, monkeypatch, num_devices, configured, shape
):
  devices = jax.devices()[:num_devices]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  config = Config(
    parallel=ParallelConfig(*configured), train=TrainConfig(batch_size=120)
  )
  assert tuple(Session.open(config, inputs).mesh.shape.values()) == shape
  if shape[1:] == configured:
    check_devices(config)
  else:
    with pytest.raises(UsageError, match='does not divide the number of dev'):
      check_devices(config)


@pytest.mark.parametrize('max_history', [3, 50])
def test_mean_targets_gives_all_targets_equal_weight(inputs, max_history):
  run = session(inputs, max_history, causal_encoder=True)
  num_targets = len(split(inputs.dataset, 'train').user)
  num_examples = len(training_examples(run.config, inputs.dataset).user)
  assert num_examples < num_targets
  assert run.task.mean_targets * num_examples == pytest.approx(num_targets)
  assert session(inputs, max_history).task.mean_targets is None


@pytest.mark.parametrize(
  ('model', 'every_prefix'),
  [
    ({}, False),
    ({'causal_encoder': True}, True),
    ({'name': 'dsi'}, False),
    ({'name': 'sasrec'}, True),
  ],
)
def test_training_targets_are_all_events_except_held_out_ones(
  inputs, model, every_prefix
):
  run = session(inputs, **model)
  assert run.entry.trains_every_prefix(run.config.model) == every_prefix
  examples = training_examples(run.config, inputs.dataset)
  targets = [
    target
    for start, end in zip(examples.start, examples.end, strict=True)
    for target in range(start + 1 if every_prefix else end, end + 1)
  ]
  # The first event of a user has no history, and the last two are held out.
  assert sorted(targets) == [
    target
    for first, stop in itertools.pairwise(inputs.dataset.offsets.tolist())
    for target in range(first + 1, stop - 2)
  ]


def test_packed_rows_have_whole_histories_and_equally_weighted_targets(inputs):
  run = session(inputs, 6, causal_encoder=True)
  train = dataclasses.replace(run.config.train, packed=True)
  run = dataclasses.replace(
    run, config=dataclasses.replace(run.config, train=train)
  )
  assert isinstance(run.batches, PackedBatches)
  # These batches are an epoch without the last rows, which fill no batch.
  steps = run.batches.steps_per_epoch
  position = run.batches.stack(0, steps).position
  num_targets = (position >= 0).sum()
  assert run.task.mean_targets == pytest.approx(
    num_targets / (steps * 8), rel=0.05
  )
  stack = run.batches.stack(0, 1)
  assert stack.position.shape == (1, 8, 6)
  assert isinstance(run.training_task, LookUp)
  batch = stack.gather(run.batches.events)
  history = inputs.dataset.history
  examples = training_examples(run.config, inputs.dataset)
  windows = {
    tuple(history[start : end + 1].tolist())
    for start, end in zip(examples.start, examples.end, strict=True)
  }
  for row, target in zip(batch.history[0], batch.target[0], strict=True):
    first = 0
    for last in np.flatnonzero(target >= 0).tolist():
      assert (*row[first : last + 1].tolist(), int(target[last])) in windows
      first = last + 1
    assert first and (row[first:] == -1).all()


def test_replicas_have_consecutive_seeds(inputs):
  assert session(inputs, seed=7).seeds == [7]
  assert session(inputs, seed=7, replicas=3).seeds == [7, 8, 9]
  # Seeds wrap around, because jax.random.key drops higher bits.
  assert session(inputs, seed=2**32 - 1, replicas=2).seeds == [2**32 - 1, 0]


def test_every_part_is_built_once(inputs):
  run = session(inputs)
  for name in ('network', 'batches', 'task', 'retriever'):
    assert getattr(run, name) is getattr(run, name), name
  assert run.task.model is run.network


def test_histories_are_looked_up_on_the_device(inputs):
  run = session(inputs)
  assert run.batches.events is not None
  assert isinstance(run.training_task, LookUp)
  np.testing.assert_array_equal(
    run.training_task.tables[1], inputs.dataset.history
  )
  run.batches.__dict__['events'] = None
  assert run.training_task is run.task


def test_tiger_retrieves_from_the_whole_catalog(inputs):
  config = dataclasses.replace(
    session(inputs).config, evaluation=EvaluationConfig(num_beams=17)
  )
  run = dataclasses.replace(session(inputs), config=config)
  assert isinstance(run.retriever, TigerRetriever)
  assert run.retriever.num_beams == 17
  num_items = inputs.dataset.num_items
  assert run.retriever.catalog.size == num_items
  codes = np.asarray(run.retriever.codes)
  np.testing.assert_array_equal(codes[:num_items], inputs.ids.codes)
  # There is spare capacity for new items.
  assert len(codes) == run.retriever.catalog.capacity > num_items


def test_the_training_trie_has_only_items_of_training_histories(inputs):
  run = session(inputs, softmax='trie')
  in_training = {
    item
    for first, stop in itertools.pairwise(inputs.dataset.offsets.tolist())
    for item in inputs.dataset.history[first : stop - 2].tolist()
  }
  num_items = inputs.dataset.num_items
  assert 10 < len(in_training) < num_items - 10
  trie = jax.device_put(run.training_trie)
  rows = np.asarray(trie.lookup(jnp.asarray(inputs.ids.codes)))
  assert rows.tolist() == [
    row if row in in_training else -1 for row in range(num_items)
  ]
  assert run.task.tables.trie is run.training_trie
  # The search recommends all items.
  assert run.retriever.catalog.size == num_items


def test_the_training_trie_has_all_items_if_training_has_all_items(inputs):
  ids = dataclasses.replace(inputs.ids, codes=inputs.ids.codes[:12])
  walks = [[*range(i, 12), *range(i), 0, 1] for i in range(4)]
  run = session(Inputs(make_dataset(walks, 12), ids), softmax='trie')
  rows = jax.device_put(run.training_trie).lookup(jnp.asarray(ids.codes))
  np.testing.assert_array_equal(rows, np.arange(12))


def test_a_softmax_over_all_codes_has_no_trie(inputs):
  run = session(inputs)
  assert run.training_trie is None and run.task.tables.trie is None


@pytest.mark.parametrize(
  ('model', 'expected'),
  [
    ({}, True),
    ({'name': 'dsi'}, True),
    ({'softmax': 'trie'}, False),
    ({'name': 'sasrec'}, False),
  ],
)
def test_only_a_softmax_over_all_codes_can_generate_invalid_ids(
  inputs, model, expected
):
  assert session(inputs, **model).can_generate_invalid_ids == expected


def test_a_baseline_has_the_inputs_and_devices_of_its_session(inputs):
  run = session(inputs)
  nearest = run.baseline('item_knn', max_history=5)
  assert nearest.inputs is inputs and nearest.mesh is run.mesh
  assert nearest.entry.title == 'Semantic-KNN'
  assert nearest.config.model.max_history == 5
  assert nearest.config.train.length_buckets == (5,)
  np.testing.assert_allclose(
    nearest.retriever.features, inputs.embeddings, rtol=1e-6
  )
  # The session itself does not change.
  assert run.config.model == session(inputs).config.model
  assert isinstance(run.retriever, TigerRetriever)


def test_a_mixture_counts_the_transitions_of_training(inputs):
  run = session(inputs)
  assert run.mixed(None) is run.retriever
  retriever = run.mixed(Gate(0.25, 4.0))
  assert isinstance(retriever, TigerRetriever)
  assert retriever.catalog is run.catalog
  mixture = retriever.mixture
  assert (float(mixture.weight), float(mixture.kappa)) == (0.25, 4)
  # The table has a row for every row of the catalog.
  assert len(mixture.transitions.num_left) == len(run.catalog.codes)
  num_training = np.maximum(np.diff(inputs.dataset.offsets) - 3, 0).sum()
  assert mixture.transitions.num_left.sum() == num_training
  # Changes to the held-out items do not change the table.
  history = inputs.dataset.history.copy()
  for back in (1, 2):
    place = inputs.dataset.offsets[1:] - back
    history[place] = (history[place] + 1) % inputs.dataset.num_items
  changed = dataclasses.replace(inputs.dataset, history=history)
  other = session(inputs._replace(dataset=changed)).transitions
  for a, b in zip(mixture.transitions, other, strict=True):
    np.testing.assert_array_equal(a, b)
  # A model that scores items has no mixture.
  popularity = run.baseline('popularity')
  assert popularity.mixed(Gate(0.5)) is popularity.retriever


def test_a_mixture_needs_transitions(inputs):
  dataset = make_dataset([[0, 1, 2], [3, 1, 0]], inputs.dataset.num_items)
  run = session(inputs._replace(dataset=dataset))
  with pytest.raises(DataError, match='no user has two training events'):
    run.mixed(Gate(0.5))


def test_with_catalog_does_not_change_the_session(inputs):
  run = session(inputs)
  assert run.retriever.catalog is run.catalog
  fewer = run.catalog.remove(np.array([3]))
  other = run.with_catalog(fewer)
  assert other.retriever.catalog is fewer
  assert other.config is run.config and other.inputs is inputs
  assert run.retriever.catalog.size == inputs.dataset.num_items


def test_identity_depends_on_the_model_and_the_catalog(inputs):
  identity = session(inputs).identity
  assert identity == session(inputs).identity
  assert identity['model']['max_history'] == 3
  codes = inputs.ids.codes[:, ::-1].copy()
  ids = dataclasses.replace(inputs.ids, codes=codes)
  for other in (
    session(inputs, seed=1),
    session(inputs, num_user_tokens=5),
    session(inputs, softmax='trie'),
    session(inputs, softmax='trie', history_bias=True),
    session(inputs, recency_bias=True),
    session(inputs, prefix_embeddings=9),
    session(inputs, prefix_embeddings=9, prefix_dropout=0.1),
    session(inputs, batch_size=16),
    session(inputs._replace(ids=ids)),
    session(inputs._replace(embeddings=None)),
  ):
    assert other.identity != identity
