"""A shop with item vectors and a tokenizer, and an untrained network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.serving import conftest
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.inputs import Inputs
from tiger_jax.recommenders.session import Session
from tiger_jax.recommenders.tiger_task import TigerTask
from tiger_jax.runtime import sharding
from tiger_jax.semantic_ids.quantizers.rq_kmeans import RqKmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.serving.model import Model
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.snapshot import Snapshot

DIM = 4
RNG = np.random.default_rng(1)
VECTORS = RNG.normal(size=(conftest.NUM_ITEMS, DIM)).astype(np.float32)
CODEBOOKS = RNG.normal(size=(2, 3, DIM)).astype(np.float32)
RESULTS = {
  'dataset': {'users': 3, 'items': 14, 'interactions': 15},
  'metrics': {'test': {'recall@10': 0.25}},
}


def make_tokenizer(collisions='extra_code'):
  """Returns a tokenizer with two codebooks of three codes."""
  codebooks = tuple(map(jnp.asarray, CODEBOOKS))
  quantizer = RqKmeans(jnp.zeros(DIM, jnp.float32), codebooks)
  return Tokenizer(quantizer, collisions, DIM)


def make_model(config=conftest.CONFIG):
  """Returns a model of the shop of `conftest`."""
  tokenizer, dataset = make_tokenizer(), conftest.make_dataset()
  ids = tokenizer.make_ids(VECTORS, {'quantizer': 'rq_kmeans'})
  task = TigerTask(Tiger(config.model, ids.level_sizes), jnp.asarray(ids.codes))
  mesh = sharding.make_mesh(jax.devices()[:1])
  session = Session(config, Inputs(dataset, ids), mesh)
  return Model(
    session,
    task.init(jax.random.key(0)),
    dataset,
    lambda: VECTORS,
    lambda: tokenizer,
    lambda: RESULTS,
  )


def make_shop(model):
  """Returns a new Recommender with the catalog of the run."""
  return Recommender._of(Snapshot.of(model))


def assert_same_items(items, expected):
  """Compares two lists of recommendations; scores may differ by rounding.

  Searches of different shapes, for example with other beams, add in a different
  order on some processors.
  """
  assert [x._replace(score=0) for x in items] == [
    x._replace(score=0) for x in expected
  ]
  assert [x.score for x in items] == pytest.approx(
    [x.score for x in expected], abs=1e-5
  )


def with_weight(model, weight):
  """Returns a model with another weight of the transitions."""
  session = model.session
  evaluation = dataclasses.replace(
    session.config.evaluation, transition_weight=weight
  )
  config = dataclasses.replace(session.config, evaluation=evaluation)
  session = Session(config, session.inputs, session.mesh)
  return dataclasses.replace(model, session=session)
