"""A Recommender with an untrained network for a shop of 14 items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import (
  Config,
  DatasetConfig,
  EvaluationConfig,
  ModelConfig,
  TrainConfig,
)
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.collisions import extra_code
from tiger_jax.serving.recommender import Recommender

NUM_ITEMS = 14
CONFIG = Config(
  dataset=DatasetConfig(name='files'),
  model=ModelConfig(
    max_history=4,
    d_model=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
  ),
  train=TrainConfig(length_buckets=(2, 4)),
  evaluation=EvaluationConfig(num_beams=10),
)


def make_dataset():
  titles = [f'Item {i}' for i in range(NUM_ITEMS)]
  titles[3] = ''
  histories = [[0, 1, 2], [5, 6, 7, 8, 9, 10, 11], [3, 2, 1, 0, 4]]
  lengths = [len(x) for x in histories]
  return Dataset(
    name='files',
    items=Items(
      ids=tuple(f'i{100 + i}' for i in range(NUM_ITEMS)),
      fields={name: ('',) * NUM_ITEMS for name in FIELDS}
      | {'title': tuple(titles)},
    ),
    user_ids=('ann', 'bob', 'cem'),
    history=np.concatenate(histories).astype(np.int32),
    offsets=np.cumsum([0, *lengths]).astype(np.int64),
  )


@pytest.fixture(name='config', scope='module')
def _config():
  return CONFIG


@pytest.fixture(name='dataset', scope='module')
def _dataset():
  return make_dataset()


@pytest.fixture(name='ids', scope='module')
def _ids():
  codes = np.random.default_rng(0).integers(0, 3, (NUM_ITEMS, 2))
  return extra_code(codes, (3, 3), {'quantizer': 'none'})


@pytest.fixture(name='params', scope='module')
def _params(ids):
  task = TigerTask(Tiger(CONFIG.model, ids.level_sizes), jnp.asarray(ids.codes))
  return task.init(jax.random.key(0))


@pytest.fixture(name='session', scope='module')
def _session(ids):
  mesh = sharding.make_mesh(jax.devices()[:1])
  return Session(CONFIG, Inputs(make_dataset(), ids), mesh)


@pytest.fixture(name='recommender', scope='module')
def _recommender(session, params):
  return Recommender(session, params)


@pytest.fixture(name='model', scope='module')
def _model():
  from tests.serving import shop

  return shop.make_model()


@pytest.fixture(name='shop')
def _shop(model):
  """A Recommender that a test may change."""
  from tests.serving import shop

  return shop.make_shop(model)
