"""TIGER's search with the real network."""

import itertools
import math

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.decoding.catalog import Catalog
from tiger_jax.decoding.retriever import TigerRetriever
from tiger_jax.models.tiger import Tiger
from tiger_jax.shapes import Batch
from tiger_jax.training.sharding import make_mesh, replicate, shard_batch

LEVEL_SIZES = (5, 3, 4)
NUM_ITEMS = 13
NUM_REQUESTS = 8
CONFIG = ModelConfig(
  max_history=3,
  d_model=8,
  num_heads=2,
  head_dim=3,
  mlp_dim=12,
  num_encoder_layers=1,
  num_decoder_layers=2,
  num_user_tokens=5,
)
MODEL = Tiger(CONFIG, LEVEL_SIZES)


def _codes(num_items, level_sizes=LEVEL_SIZES, seed=0):
  ids = np.random.default_rng(seed).permutation(math.prod(level_sizes))
  codes = np.stack(np.unravel_index(ids[:num_items], level_sizes), 1)
  return codes.astype(np.int32)


def _retriever(num_beams, model=MODEL, codes=None):
  codes = _codes(NUM_ITEMS) if codes is None else codes
  catalog = Catalog.from_codes(codes, model.level_sizes)
  return TigerRetriever(model, jnp.asarray(codes), catalog, num_beams)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(1)
  history = rng.integers(0, NUM_ITEMS, (NUM_REQUESTS, CONFIG.max_history))
  lengths = rng.integers(1, CONFIG.max_history + 1, NUM_REQUESTS)
  history[np.arange(CONFIG.max_history)[None] >= lengths[:, None]] = -1
  user = np.arange(NUM_REQUESTS) - 1
  target = np.full(NUM_REQUESTS, -1)
  return Batch(*(x.astype(np.int32) for x in (history, user, target)))


@pytest.fixture(scope='module')
def params(batch):
  init = jax.jit(MODEL.init)
  codes = jnp.asarray(_codes(NUM_ITEMS))
  return init(jax.random.key(0), codes, batch)['params']


@pytest.fixture(scope='module')
def item_scores(params, batch):
  """The log-probability of every item for every request, one by one."""
  codes = jnp.asarray(_codes(NUM_ITEMS))

  @jax.jit
  def score(target):
    taught = batch._replace(target=jnp.full((NUM_REQUESTS,), target))
    logits = MODEL.apply({'params': params}, codes, taught)
    return sum(
      jax.nn.log_softmax(x)[:, codes[target, level]]
      for level, x in enumerate(logits)
    )

  return np.stack([score(jnp.int32(i)) for i in range(NUM_ITEMS)], 1)


@pytest.fixture(scope='module')
def whole_search(params, batch):
  """A search with more beams than there are items."""
  return _retriever(20).search(params, batch, 1)


def test_equals_scoring_every_item(whole_search, item_scores):
  order = np.argsort(-item_scores, axis=1)
  ranked = np.take_along_axis(item_scores, order, 1)
  assert (ranked[:, :-1] - ranked[:, 1:] > 1e-5).all()
  np.testing.assert_array_equal(whole_search.items[:, :NUM_ITEMS], order)
  np.testing.assert_allclose(
    whole_search.scores[:, :NUM_ITEMS], ranked, atol=1e-5
  )
  assert whole_search.valid[:, :NUM_ITEMS].all()
  assert not whole_search.valid[:, NUM_ITEMS:].any()


def test_fewer_beams_score_as_the_oracle_does(params, batch, item_scores):
  found = jax.device_get(_retriever(4).recommend(params, batch, 4))
  assert found.valid.all()
  expected = np.take_along_axis(item_scores, found.items, 1)
  np.testing.assert_allclose(found.scores, expected, atol=1e-5)
  assert (np.diff(found.scores, axis=1) <= 0).all()
  best = np.sort(item_scores, axis=1)[:, ::-1][:, :4]
  # A small beam can lose an item, but not rank a worse one above a better.
  assert (found.scores <= best + 1e-5).all()


def test_requests_do_not_see_each_other(params, batch, whole_search):
  retriever = _retriever(20)
  for row in range(3):
    alone = jax.tree.map(lambda x, i=row: x[i : i + 1], batch)
    found = retriever.search(params, alone, 1)
    np.testing.assert_array_equal(found.items[0], whole_search.items[row])
    np.testing.assert_allclose(
      found.scores[0], whole_search.scores[row], atol=1e-5
    )


def test_one_device_equals_eight(params, batch, whole_search):
  mesh = make_mesh()
  assert mesh.size == 8
  one = _retriever(20)
  retriever = TigerRetriever(
    MODEL, *replicate(mesh, (one.codes, one.catalog)), one.num_beams
  )
  found = retriever.search(replicate(mesh, params), shard_batch(mesh, batch), 1)
  assert len(found.items.sharding.device_set) == 8
  np.testing.assert_array_equal(found.items, whole_search.items)
  np.testing.assert_allclose(found.scores, whole_search.scores, atol=1e-5)


@pytest.mark.parametrize('k', [1, 5, 20, 70])
def test_recommends_the_k_best(params, batch, whole_search, k):
  """Also where more are asked for than there are beams, items, or IDs."""
  found = jax.device_get(_retriever(20).recommend(params, batch, k))
  assert found.items.shape == found.scores.shape == found.valid.shape
  assert found.items.shape == (NUM_REQUESTS, k)
  best = min(k, NUM_ITEMS)
  np.testing.assert_array_equal(
    found.items[:, :best], whole_search.items[:, :best]
  )
  assert found.valid[:, :best].all()
  assert not found.valid[:, best:].any()
  assert (found.items[:, best:] == -1).all()
  assert (found.scores[:, best:] == -np.inf).all()


def test_an_unconstrained_search_says_which_ids_are_items(params, batch):
  retriever = _retriever(20)
  found = jax.device_get(retriever.search(params, batch, 1, constrained=False))
  rows = {tuple(x): i for i, x in enumerate(_codes(NUM_ITEMS).tolist())}
  expected = [[rows.get(tuple(x), -1) for x in y] for y in found.codes.tolist()]
  np.testing.assert_array_equal(found.items, expected)
  np.testing.assert_array_equal(found.valid, np.array(expected) >= 0)
  assert found.valid.any() and not found.valid.all()
  assert np.isfinite(found.scores).all()
  for codes in found.codes.tolist():
    assert len(set(map(tuple, codes))) == 20
  np.testing.assert_array_equal(
    retriever.generated_validity(params, batch, 7), found.valid[:, :7]
  )


def test_new_ids_compile_nothing(params, batch):
  @jax.jit
  def search(codes, catalog):
    return (
      TigerRetriever(MODEL, codes, catalog, 4).search(params, batch, 4).items
    )

  every = np.array(list(itertools.product(*map(range, LEVEL_SIZES))), np.int32)
  for first in (0, 4):
    # One item for each of 13 pairs of first codes: the same capacity.
    codes = every[first : first + 4 * NUM_ITEMS : 4]
    catalog = Catalog.from_codes(codes, LEVEL_SIZES)
    assert (np.asarray(search(jnp.asarray(codes), catalog)) >= 0).all()
  assert search._cache_size() == 1


def test_lowers_for_every_platform(params, batch):
  one = _retriever(4)

  @jax.jit
  def search(params, codes, catalog, batch):
    return TigerRetriever(MODEL, codes, catalog, 4).search(params, batch, 4)

  lower = export.export(search, platforms=('cpu', 'cuda', 'tpu'))
  exported = lower(params, one.codes, one.catalog, batch)
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
