"""A server of the shop of 14 items, shared by all tests of a process."""

import dataclasses

import jax
import pytest

from tests.serving import conftest, shop
from tests.serving.server import live
from tiger_jax.config import EmbeddingConfig, TrainConfig

DIM = shop.DIM
# One length of histories, so that few programs are compiled.
CONFIG = dataclasses.replace(
  conftest.CONFIG,
  embedding=EmbeddingConfig('precomputed', path='vectors.npy'),
  train=TrainConfig(length_buckets=(4,)),
)


@pytest.fixture(name='make_shop', scope='session')
def _make_shop():
  """A function that makes a Recommender with scaled parameters."""
  model = shop.make_model(CONFIG)

  def make(scale=1.0):
    params = jax.tree.map(lambda x: x * scale, model.params)
    return shop.make_shop(dataclasses.replace(model, params=params))

  return make


@pytest.fixture(name='shop', scope='session')
def _shop(make_shop):
  return make_shop()


@pytest.fixture(name='root', scope='session')
def _root(tmp_path_factory):
  return tmp_path_factory.mktemp('models')


@pytest.fixture(name='server', scope='session')
def _server(shop, root):
  with live.serving(shop, root) as server:
    yield server
