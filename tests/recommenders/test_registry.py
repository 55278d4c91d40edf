"""The registered models: their inputs, features and properties."""

import jax
import numpy as np
import pytest

from tiger_jax.config import Config, ModelConfig, TrainConfig
from tiger_jax.data.sources import synthetic
from tiger_jax.data.splits import training_positions
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.registry import BASELINES, MODELS, load, title
from tiger_jax.recommenders.session import Session
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds


@pytest.fixture(name='inputs', scope='module')
def _inputs():
  """Returns inputs whose vectors have large means and a constant dimension."""
  dataset = synthetic.make(20, seed=0)
  num_items = dataset.num_items
  vectors = np.random.default_rng(0).normal(7, 3, (num_items, 6))
  vectors[:, 2] = 5.3
  rows = np.arange(num_items, dtype=np.int32)
  codes = np.stack([rows // 30, rows % 30 // 2, rows % 2], 1)
  ids = SemanticIds(codes, (20, 15, 2), 2, {})
  return Inputs(dataset, ids, vectors.astype(np.float16))


def session(name, inputs):
  config = Config(
    model=ModelConfig(name=name, max_history=3, d_model=8),
    train=TrainConfig(batch_size=4, length_buckets=(3,)),
  )
  return Session(config, inputs, make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize('name', ['two_tower', 'dsi'])
def test_item_vectors_are_standardized(inputs, name):
  x = inputs.embeddings.astype(np.float64)
  std = x.std(axis=0)
  std[2] = 1
  expected = (x - x.mean(axis=0)) / std
  tables = session(name, inputs).task.tables
  vectors = tables.vectors if name == 'dsi' else tables
  np.testing.assert_allclose(vectors, expected, atol=1e-5)
  np.testing.assert_array_equal(vectors[:, 2], 0)


def test_training_and_retrieval_use_the_same_vectors(inputs):
  run = session('two_tower', inputs)
  np.testing.assert_array_equal(run.retriever.features, run.task.tables)


def test_vq_rec_reads_prefixes_without_the_collision_code(inputs):
  run = session('vq_rec', inputs)
  np.testing.assert_array_equal(run.features, inputs.ids.codes[:, :2])
  assert run.network.level_sizes == (20, 15)
  assert session('tiger', inputs).network.level_sizes == (20, 15, 2)


def test_item_knn_uses_the_raw_vectors(inputs):
  features = session('item_knn', inputs).features
  assert features.dtype == np.float32
  np.testing.assert_array_equal(features, inputs.embeddings.astype(np.float32))


def test_popularity_counts_training_events(inputs):
  dataset = inputs.dataset
  counts = [0] * dataset.num_items
  for position in np.flatnonzero(training_positions(dataset)):
    counts[dataset.history[position]] += 1
  assert session('popularity', inputs).features.tolist() == counts


@pytest.mark.parametrize('name', MODELS)
def test_a_model_is_built_from_its_required_inputs(inputs, name):
  entry = MODELS[name]
  inputs = Inputs(
    inputs.dataset,
    inputs.ids if 'semantic_ids' in entry.needs else None,
    inputs.embeddings if 'embeddings' in entry.needs else None,
  )
  run = session(name, inputs)
  assert isinstance(run.network, load(entry.network))
  assert isinstance(run.retriever, TigerRetriever) == entry.is_generative
  if entry.is_trained:
    params = jax.eval_shape(run.task.init, jax.random.key(0))
    assert jax.tree.leaves(params)
  assert entry.is_generative == (name in ('tiger', 'dsi'))
  assert entry.is_generative != isinstance(run.network, ItemModel)
  assert entry.is_trained == (
    name not in ('popularity', 'item_knn', 'transitions')
  )
  assert (name in BASELINES) == (name != 'tiger')


def test_titles_are_unique_and_an_unknown_model_has_its_name_as_title():
  titles = [title(name) for name in MODELS]
  assert len(set(titles)) == len(titles)
  assert title('sasrec') == 'SASRec' and title('unknown') == 'unknown'
