"""The search computes in float32 for a model trained in bfloat16.

In bfloat16, ranks would depend on the number of beams and the batch size.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.sasrec import SasRec
from tiger_jax.models.dsi import Dsi
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.items import ItemRetriever
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever

# These tests need the default compiler options, as users have them.
pytestmark = pytest.mark.as_users

LEVEL_SIZES = (32, 32)
NUM_ITEMS = 400
NUM_REQUESTS = 32
FEW, MANY, K = 8, 128, 8
CONFIG = ModelConfig(
  max_history=4,
  d_model=32,
  num_heads=2,
  head_dim=16,
  mlp_dim=64,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dtype='bfloat16',
)
MODEL = Tiger(CONFIG, LEVEL_SIZES)
RNG = np.random.default_rng(0)
CODES = np.stack(
  np.unravel_index(
    RNG.permutation(math.prod(LEVEL_SIZES))[:NUM_ITEMS], LEVEL_SIZES
  ),
  1,
).astype(np.int32)
NONE = np.full(NUM_REQUESTS, -1, np.int32)
BATCH = Batch(
  RNG.integers(0, NUM_ITEMS, (NUM_REQUESTS, 4)).astype(np.int32), NONE, NONE
)
SAMPLER = Sampler(
  np.arange(NUM_REQUESTS, dtype=np.uint32), np.float32(1), np.int32(2)
)


@pytest.fixture(name='params', scope='module')
def _params():
  """Returns random parameters with score gaps larger than rounding errors."""
  shapes = jax.eval_shape(
    MODEL.init, jax.random.key(0), jnp.asarray(CODES), BATCH
  )
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: jnp.asarray(
      0.3 * rng.normal(size=x.shape) + (x.ndim == 1), x.dtype
    ),
    shapes['params'],
  )


@pytest.fixture(name='catalog', scope='module')
def _catalog():
  return Catalog.from_codes(CODES, LEVEL_SIZES)


@pytest.fixture(name='search', scope='module')
def _search(params, catalog):
  """Returns a function that searches with the model trained in bfloat16."""
  retriever = TigerRetriever(MODEL, catalog, FEW)

  def search(batch, k, sampler=None):
    return jax.device_get(retriever.search(params, batch, k, sampler=sampler))

  return search


def one_by_one(search, sampler=None):
  """Returns the first K items of each request, from separate searches."""
  items = []
  for i in range(NUM_REQUESTS):
    row = slice(i, i + 1)
    part = sampler and sampler._replace(seeds=sampler.seeds[row])
    beams = search(Batch(*(x[row] for x in BATCH)), K, part)
    items.append(beams.items[0, :K])
  return np.stack(items)


def test_the_search_equals_that_of_a_float32_model(params, catalog, search):
  beams = search(BATCH, K)
  inputs = params, catalog, BATCH, None, None, None
  model = Tiger(dataclasses.replace(CONFIG, dtype='float32'), LEVEL_SIZES)
  exact = retriever_module._search(model, FEW, True, *inputs)
  jax.tree.map(np.testing.assert_array_equal, beams, exact)
  rounded = retriever_module._search(MODEL, FEW, True, *inputs)
  assert np.abs(beams.scores - rounded.scores).max() > 1e-3


def test_batching_does_not_change_results(search):
  together = search(BATCH, K).items[:, :K]
  np.testing.assert_array_equal(one_by_one(search), together)


def test_batching_does_not_change_draws(search):
  together = search(BATCH, K, SAMPLER).items[:, :K]
  np.testing.assert_array_equal(one_by_one(search, SAMPLER), together)
  assert (together != search(BATCH, K).items[:, :K]).any(1).all()


def test_proven_items_keep_their_rank_in_a_wider_search(search):
  narrow, wide = search(BATCH, FEW), search(BATCH, MANY)
  assert (narrow.items.shape[1], wide.items.shape[1]) == (FEW, MANY)
  proven = np.arange(FEW)[None] < narrow.exact_k[:, None]
  assert proven.sum() > 50
  np.testing.assert_array_equal(
    narrow.items[proven], wide.items[:, :FEW][proven]
  )
  assert (narrow.items != wide.items[:, :FEW]).any()


def test_every_model_retrieves_in_float32(catalog):
  config = dataclasses.replace(CONFIG, dtype='float32')
  dsi = Dsi(CONFIG, LEVEL_SIZES)
  dsi = TigerRetriever(dsi, catalog, FEW).model
  assert type(dsi) is Dsi and dsi == Dsi(config, LEVEL_SIZES)
  sasrec = ItemRetriever(SasRec(CONFIG, NUM_ITEMS, 7), None).model
  assert type(sasrec) is SasRec and sasrec == SasRec(config, NUM_ITEMS, 7)
