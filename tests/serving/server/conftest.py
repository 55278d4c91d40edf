"""A server of the shop of 14 items, shared by the tests of a module."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.serving import conftest as shops
from tests.serving.server import live
from tiger_jax.config import TrainConfig
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.quantizers.rq_kmeans import RqKmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.serving.model import Model
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.snapshot import Snapshot

DIM = 4
# One length of histories, so that few programs are compiled.
CONFIG = dataclasses.replace(
  shops.CONFIG, train=TrainConfig(length_buckets=(4,))
)


@pytest.fixture(name='make_shop', scope='module')
def _make_shop(ids, params):
  """A function that makes a Recommender with scaled parameters."""
  rng = np.random.default_rng(3)
  books = tuple(jnp.asarray(rng.normal(size=(3, DIM))) for _ in range(2))
  tokenizer = Tokenizer(RqKmeans(jnp.zeros(DIM), books), 'extra_code', DIM)
  mesh = sharding.make_mesh(jax.devices()[:1])

  def make(scale=1.0):
    scaled = jax.tree.map(lambda x: x * scale, params)
    session = Session(CONFIG, Inputs(shops.make_dataset(), ids), mesh)
    model = Model(
      session, scaled, session.inputs.dataset, read_tokenizer=lambda: tokenizer
    )
    return Recommender._of(Snapshot.of(model))

  return make


@pytest.fixture(name='shop', scope='module')
def _shop(make_shop):
  return make_shop()


@pytest.fixture(name='root', scope='module')
def _root(tmp_path_factory):
  return tmp_path_factory.mktemp('models')


@pytest.fixture(name='server', scope='module')
def _server(shop, root):
  with live.serving(shop, root) as server:
    yield server
