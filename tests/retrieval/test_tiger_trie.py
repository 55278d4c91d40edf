"""Tests of the search of TIGER with a trie softmax and the real network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.retrieval.real_network import (
  BATCH,
  CODES,
  CONFIG,
  LEVEL_SIZES,
  NUM_ITEMS,
)
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import UsageError
from tiger_jax.models.cross_entropy import cross_entropy, target_children
from tiger_jax.models.history_bias import SeenItems
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.tiger import TigerRetriever

MODEL = Tiger(CONFIG, LEVEL_SIZES)


@pytest.fixture(name='retriever', scope='module')
def _retriever():
  catalog = Catalog.from_codes(CODES[:NUM_ITEMS], LEVEL_SIZES, capacity=20)
  return TigerRetriever(MODEL, catalog, 16)


@pytest.fixture(name='params', scope='module')
def _params():
  init = jax.jit(MODEL.init)
  params = init(jax.random.key(0), jnp.asarray(CODES), BATCH)['params']
  for i, name in enumerate(('recency_bias', 'history_bias')):
    params[name] = {
      key: jax.random.normal(jax.random.key(i), x.shape)
      for key, x in params[name].items()
    }
  return params


@jax.jit
def item_losses(params, catalog, rows):
  """Returns each request's loss for each target item, `[requests, items]`."""

  def loss(request, row):
    batch = jax.tree.map(lambda x: jnp.asarray(x)[request][None], BATCH)
    batch = batch._replace(target=row[None])
    codes = catalog.codes[row][None, None]
    seen_items = SeenItems.of(
      catalog, catalog.codes[batch.history], batch.history[:, None] >= 0
    )
    children = target_children(catalog, codes, seen_items)
    bound = MODEL.bind({'params': params})
    scored = [x.candidates for x in children]
    logits = bound.last_target(catalog.codes, batch, scored=scored)
    return cross_entropy(logits, codes, jnp.ones((1, 1)), children).sum()

  losses = jax.vmap(jax.vmap(loss, (None, 0)), (0, None))
  return losses(jnp.arange(2), rows)


def _assert_equals_training_loss(retriever, params, rows):
  """Checks that a search returns `rows`; the scores are negative losses."""
  beams = jax.device_get(retriever.search(params, BATCH, 1))
  num = len(rows)
  scores = -np.asarray(item_losses(params, retriever.catalog, rows))
  order = np.argsort(-scores, 1)
  np.testing.assert_array_equal(beams.items[:, :num], np.array(rows)[order])
  np.testing.assert_allclose(
    beams.scores[:, :num], np.take_along_axis(scores, order, 1), atol=1e-5
  )
  np.testing.assert_allclose(np.exp(beams.scores).sum(1), 1, rtol=1e-5)
  assert not beams.valid[:, num:].any()


def test_scores_are_the_negative_training_losses(retriever, params):
  _assert_equals_training_loss(retriever, params, np.arange(NUM_ITEMS))


def test_new_items_share_the_probability_of_their_siblings(retriever, params):
  retriever.search(params, BATCH, 1)
  compiled = retriever_module._search._cache_size()
  catalog = retriever.catalog.add(CODES[NUM_ITEMS:]).remove(np.array([1, 4]))
  rows = np.delete(np.arange(NUM_ITEMS + 2), [1, 4])
  _assert_equals_training_loss(retriever.with_catalog(catalog), params, rows)
  assert retriever_module._search._cache_size() == compiled


def test_a_low_bias_excludes_the_items_of_the_history(retriever, params):
  """Each level lowers only codes that lead to no other item."""
  bias = params['history_bias']
  table = jnp.zeros((3, 2)).at[:, 1].set(-100)
  bias = {'kernel': 0 * bias['kernel'], 'table': table}
  changed = {**params, 'history_bias': bias}
  beams = jax.device_get(retriever.search(changed, BATCH, 1))
  for items, scores, history in zip(*beams[:3:2], BATCH.history, strict=True):
    seen = np.unique(history[history >= 0])
    assert set(items[NUM_ITEMS - len(seen) : NUM_ITEMS]) == set(seen)
    assert scores[NUM_ITEMS - len(seen)] < -50
    np.testing.assert_allclose(
      np.exp(scores[: NUM_ITEMS - len(seen)]).sum(), 1, rtol=1e-5
    )


def test_an_unconstrained_search_is_refused(retriever, params):
  with pytest.raises(UsageError) as error:
    retriever.search(params, BATCH, 1, constrained=False)
  message = str(error.value)
  assert "softmax 'trie'" in message and '\n' not in message
  assert message.endswith('set constrained to True')
