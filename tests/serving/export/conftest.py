"""Exports of two untrained models, and helpers to read them."""

import dataclasses
import hashlib
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.serving.conftest import CONFIG, NUM_ITEMS, make_dataset
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.serving.export import export_programs
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommender import Recommender

HISTORIES = ([12], [3, 0], [5, 6, 7, 8], [9, 10, 11, 13, 2, 1])
# In the catalog of the second model, some arrays are empty.
LEVEL_SIZES = {'plain': (3, 3, 3), 'rich': (512, 512, 3)}
RICH = {
  'model': {
    'softmax': 'trie',
    'history_bias': True,
    'prefix_embeddings': 64,
    'prefix_heads': True,
    'num_user_tokens': 4,
  },
  'evaluation': {'transition_weight': 0.4},
  'train': {'length_buckets': (4,)},
}


def make_shop(kind, seed=0, **changes):
  """Returns a recommender with an untrained network."""
  sizes = LEVEL_SIZES[kind]
  spread = np.arange(NUM_ITEMS) * math.prod(sizes) // NUM_ITEMS
  codes = np.stack(np.unravel_index(spread, sizes), 1)
  ids = SemanticIds(codes.astype(np.int32), sizes, 2, {'quantizer': 'none'})
  config = CONFIG
  for name, fields in ((RICH if kind == 'rich' else {}) | changes).items():
    section = dataclasses.replace(getattr(config, name), **fields)
    config = dataclasses.replace(config, **{name: section})
  network = Tiger(config.model, ids.level_sizes)
  params = TigerTask(network, jnp.asarray(ids.codes)).init(jax.random.key(seed))
  mesh = sharding.make_mesh(jax.devices()[:1])
  session = Session(config, Inputs(make_dataset(), ids), mesh)
  return Recommender(session, params)


@pytest.fixture(name='shops', scope='session')
def _shops():
  return {kind: make_shop(kind) for kind in LEVEL_SIZES}


@pytest.fixture(name='folders', scope='session')
def _folders(shops, tmp_path_factory):
  """The exports of the models. Tests may change only a copy."""
  folder = tmp_path_factory.mktemp('exports')
  plain, rich = folder / 'plain', folder / 'rich'
  export_programs(
    shops['plain'], plain, platforms=['cpu'], batch_sizes=[2, 1],
    ks=[20],
  )  # fmt: skip
  export_programs(shops['rich'], rich, batch_sizes=[1], ks=[3])
  return {'plain': plain, 'rich': rich}


@pytest.fixture(name='copy')
def _copy(folders, tmp_path):
  """A copy of the export of the plain model."""
  return shutil.copytree(folders['plain'], tmp_path / 'copy')


def manifest_of(folder):
  return json.loads((folder / 'export.json').read_text())


def digests(folder):
  return {
    str(x.relative_to(folder)): hashlib.sha256(x.read_bytes()).hexdigest()
    for x in folder.rglob('*')
    if x.is_file() and x.name != 'export.json'
  }


def leaves_of(folder):
  arrays = safetensors.numpy.load_file(folder / 'arrays.safetensors')
  return [arrays[x['name']] for x in manifest_of(folder)['arguments']]


def answers(shop, histories, k, options=None):
  """Returns rows, scores and the number of proven items of each history."""
  ids = shop.snapshot.ids
  options = options or Options()
  lists = [shop.recommend([ids[x] for x in h], k, options) for h in histories]
  return [
    (
      [ids.index(x.item_id) for x in items],
      [x.score for x in items],
      sum(x.proven for x in items),
    )
    for items in lists
  ]
