"""The item vectors that recommenders get."""

import jax
import numpy as np
import pytest

from tiger_jax.config import Config, EvaluationConfig, ModelConfig, TrainConfig
from tiger_jax.data.sources import synthetic
from tiger_jax.recommenders import registry
from tiger_jax.recommenders.registry import Material
from tiger_jax.runtime.sharding import make_mesh
from tiger_jax.semantic_ids.ids import SemanticIds


@pytest.fixture(name='material', scope='module')
def _material():
  """Item vectors with large means, and a dimension that never changes."""
  dataset = synthetic.make(20, seed=0)
  num_items = dataset.num_items
  vectors = np.random.default_rng(0).normal(7, 3, (num_items, 6))
  vectors[:, 2] = 5.3
  codes = np.arange(num_items, dtype=np.int32)[:, None]
  ids = SemanticIds(codes, (num_items,), 1, {})
  return Material(dataset, ids, vectors.astype(np.float16))


def _config(name):
  return Config(
    model=ModelConfig(name=name, max_history=3),
    train=TrainConfig(batch_size=4, length_buckets=(3,)),
  )


def _features(name, material):
  task = registry.make_task(_config(name), material)
  return task.tables.vectors if name == 'dsi' else task.tables.features


@pytest.mark.parametrize('name', ['two_tower', 'dsi'])
def test_item_vectors_are_standardized(material, name):
  x = material.embeddings.astype(np.float64)
  std = x.std(axis=0)
  std[2] = 1
  expected = (x - x.mean(axis=0)) / std
  found = _features(name, material)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_array_equal(found[:, 2], 0)


def test_the_retriever_has_the_same_vectors(material):
  retriever = registry.make_retriever(
    _config('two_tower'), material, make_mesh(jax.devices()[:1]),
    EvaluationConfig(),
  )  # fmt: skip
  np.testing.assert_array_equal(
    retriever.features, _features('two_tower', material)
  )
