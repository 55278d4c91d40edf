"""Tests that other implementations agree with a simple beam search.

The benchmarks call these implementations peers.
"""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger

LEVEL_SIZES = (5, 3, 4)
NUM_IDS = math.prod(LEVEL_SIZES)
NUM_ITEMS = 13
NUM_REQUESTS = 6
CONFIG = ModelConfig(
  max_history=12,  # Several distances between tokens share a position bucket.
  d_model=8,
  num_heads=2,
  head_dim=3,
  mlp_dim=12,
  num_encoder_layers=2,
  num_decoder_layers=2,
  num_user_tokens=5,
)
MODEL = Tiger(CONFIG, LEVEL_SIZES)


@pytest.fixture(scope='module')
def codes():
  """All possible IDs. The first `NUM_ITEMS` of them are the items."""
  ids = np.random.default_rng(0).permutation(NUM_IDS)
  return np.stack(np.unravel_index(ids, LEVEL_SIZES), 1).astype(np.int32)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(1)
  history = rng.integers(0, NUM_ITEMS, (NUM_REQUESTS, CONFIG.max_history))
  # No history has the maximum length.
  lengths = rng.integers(1, CONFIG.max_history, NUM_REQUESTS)
  history[np.arange(CONFIG.max_history)[None] >= lengths[:, None]] = -1
  user = np.arange(NUM_REQUESTS) - 1
  target = np.full(NUM_REQUESTS, -1)
  return Batch(*(x.astype(np.int32) for x in (history, user, target)))


@pytest.fixture(scope='module')
def params(codes, batch):
  init = jax.jit(MODEL.init)
  return init(jax.random.key(0), jnp.asarray(codes), batch)['params']


@pytest.fixture(scope='module')
def prefix_scores(params, codes, batch):
  """The log-probability of every prefix of every ID, for every request."""

  @jax.jit
  def score(target):
    targets = batch._replace(target=jnp.full((NUM_REQUESTS,), target))
    logits = MODEL.apply({'params': params}, jnp.asarray(codes), targets)
    return jnp.cumsum(
      jnp.stack(
        [
          jax.nn.log_softmax(x)[:, jnp.asarray(codes)[target, level]]
          for level, x in enumerate(logits)
        ],
        1,
      ),
      1,
    )

  scores = np.stack([score(jnp.int32(i)) for i in range(NUM_IDS)], 1)
  return [
    {
      tuple(item[: level + 1]): request_scores[i, level]
      for i, item in enumerate(codes.tolist())
      for level in range(len(LEVEL_SIZES))
    }
    for request_scores in scores
  ]


def _beam_search(prefix_scores, ids, num_beams):
  """Returns the scores of the IDs that a beam search finds, best first."""
  alive = [()]
  for level in range(len(LEVEL_SIZES)):
    prefixes = {x[: level + 1] for x in ids if x[:level] in alive}
    alive = sorted(prefixes, key=prefix_scores.get, reverse=True)[:num_beams]
  return [prefix_scores[x] for x in alive]


# A search with 4 beams drops prefixes. 20 beams are more than the 13 items.
@pytest.mark.parametrize('num_beams', [4, 20])
def test_hf_t5_finds_the_items_of_a_simple_beam_search(
  params, codes, batch, prefix_scores, num_beams
):
  for name in ('torch', 'transformers'):
    pytest.importorskip(name, reason=f'needs {name}: pip install {name}')
  from benchmarks.peers import hf_t5

  peer = hf_t5.HfTiger(MODEL, params, codes[:NUM_ITEMS], LEVEL_SIZES)
  items, scores = peer.recommend(batch, num_beams, num_beams)
  assert items.shape == scores.shape == (NUM_REQUESTS, num_beams)
  catalog = [tuple(x) for x in codes[:NUM_ITEMS].tolist()]
  for by_prefix, rows, row_scores in zip(
    prefix_scores, items, scores, strict=True
  ):
    expected = _beam_search(by_prefix, catalog, num_beams)
    size = len(expected)
    assert (rows[size:] == -1).all()
    assert (row_scores[size:] == -np.inf).all()
    ids = [catalog[i] for i in rows[:size]]
    assert len(set(ids)) == size
    np.testing.assert_allclose([by_prefix[x] for x in ids], expected, atol=1e-5)
    np.testing.assert_allclose(row_scores[:size], expected, atol=1e-4)


@pytest.mark.parametrize('num_beams', [4, 20])
def test_flax_beam_search_finds_the_ids_of_a_simple_beam_search(
  params, codes, batch, prefix_scores, num_beams
):
  path = os.environ.get('TIGER_JAX_BENCH_FLAX', '')
  if not path:
    pytest.skip(
      'needs examples/wmt/decode.py of google/flax: set TIGER_JAX_BENCH_FLAX '
      'to that file'
    )
  from benchmarks.peers import flax_beam_search

  peer = flax_beam_search.FlaxSearch(path, MODEL, params, jnp.asarray(codes))
  beams, scores = jax.device_get(peer.search(batch, num_beams))
  all_ids = [tuple(x) for x in codes.tolist()]
  for by_prefix, ids, beam_scores in zip(
    prefix_scores, beams.tolist(), scores, strict=True
  ):
    expected = _beam_search(by_prefix, all_ids, num_beams)
    assert len(set(map(tuple, ids))) == num_beams
    np.testing.assert_allclose(
      [by_prefix[tuple(x)] for x in ids], expected, atol=1e-5
    )
    np.testing.assert_allclose(beam_scores, expected, atol=1e-4)
  again = peer.decode(peer.encode(batch), num_beams)
  np.testing.assert_array_equal(again[0], beams)
  np.testing.assert_allclose(again[1], scores, atol=1e-5)
