"""Tests of the search with an ensemble, against full passes of its members."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.retrieval import real_network
from tests.retrieval.real_network import BATCH, CONFIG, LEVEL_SIZES, NUM_ITEMS
from tests.retrieval.test_mixture import slow_masses, table_of
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval.ensemble import Ensemble
from tiger_jax.retrieval.mixture import Gate, Mixture
from tiger_jax.retrieval.tiger import TigerRetriever

NUM_MEMBERS = 3
CODES = real_network.CODES[:NUM_ITEMS]
ALL_CODES = dataclasses.replace(
  CONFIG, softmax='all_codes', prefix_heads=False, history_bias=False,
  num_user_tokens=7,
)  # fmt: skip


@pytest.fixture(
  name='model', params=[CONFIG, ALL_CODES], ids=['trie', 'all'], scope='module'
)
def _model(request):
  return Tiger(request.param, LEVEL_SIZES)


@pytest.fixture(name='members', scope='module')
def _members(model):
  """Returns the parameters of different members."""
  init = jax.jit(model.init)
  params = init(jax.random.key(0), jnp.asarray(CODES), BATCH)['params']
  members = []
  for seed in range(NUM_MEMBERS):
    rng = np.random.default_rng(seed)
    members.append(
      jax.tree.map(
        lambda x, rng=rng: x + rng.normal(size=x.shape).astype(x.dtype) / 2,
        params,
      )
    )
    if model.config.history_bias:
      # The slow search does not know the decoder state.
      bias = members[-1]['history_bias']
      members[-1]['history_bias'] = bias | {'kernel': 0 * bias['kernel']}
  return members


def _ensemble(members):
  return Ensemble(jax.tree.map(lambda *x: jnp.stack(x), *members))


def _slow_seen(prefix, size):
  """Returns `Candidates.seen` of every code after a prefix, `[requests, v]`."""
  seen = np.zeros((2, size), int)
  for row, code in np.ndindex(2, size):
    is_below = (CODES[:, : len(prefix) + 1] == [*prefix, code]).all(1)
    is_seen = np.isin(np.flatnonzero(is_below), BATCH.history[row])
    if is_below.any():
      seen[row, code] = int(is_seen.any()) + int(is_seen.all())
  return seen


def _slow_scores(model, members):
  """Returns the score of every item, `[requests, items]`."""
  scores = np.zeros((2, len(CODES)))
  last_target = jax.jit(functools.partial(model.apply, method='last_target'))
  for row, codes in enumerate(CODES):
    batch = BATCH._replace(target=np.full(2, row, np.int32))
    passes = [
      last_target({'params': x}, jnp.asarray(CODES), batch) for x in members
    ]
    for level, code in enumerate(codes):
      logits = np.mean([np.asarray(x[level])[:, 0] for x in passes], 0)
      if model.config.history_bias:
        tables = [x['history_bias']['table'][level] for x in members]
        bias = np.append(0, np.mean(tables, 0))
        logits += bias[_slow_seen(codes[:level], logits.shape[1])]
      if model.config.softmax == 'trie':
        siblings = CODES[(CODES[:, :level] == codes[:level]).all(1), level]
        allowed = np.isin(np.arange(logits.shape[1]), siblings)
        logits = np.where(allowed, logits, -np.inf)
      scores[:, row] += logits[:, code] - np.logaddexp.reduce(logits, 1)
  return scores


def test_an_ensemble_ranks_by_the_mean_of_the_logits(model, members):
  catalog = Catalog.from_codes(CODES, LEVEL_SIZES)
  retriever = TigerRetriever(model, catalog, 16)
  beams = jax.device_get(retriever.search(_ensemble(members), BATCH, 1))
  scores = _slow_scores(model, members)
  num_items = len(CODES)
  np.testing.assert_array_equal(
    beams.items[:, :num_items], np.argsort(-scores, 1)
  )
  np.testing.assert_allclose(
    beams.scores[:, :num_items], -np.sort(-scores, 1), atol=1e-4
  )
  # No member ranks the items like the ensemble.
  for params in members:
    alone = jax.device_get(retriever.search(params, BATCH, 1))
    assert (alone.items != beams.items).any(1).all()


def test_a_mixture_adds_transitions_to_the_probability_of_the_ensemble(
  model, members
):
  catalog = Catalog.from_codes(CODES, LEVEL_SIZES)
  rng = np.random.default_rng(3)
  walks = rng.integers(0, NUM_ITEMS, (40, 3)).tolist()
  mixture = Mixture.of(table_of(walks, NUM_ITEMS), Gate(0.3))
  retriever = TigerRetriever(model, catalog, 16).with_mixture(mixture)
  probabilities = 0.7 * np.exp(_slow_scores(model, members))
  for row, history in zip(probabilities, BATCH.history, strict=True):
    masses, _ = slow_masses(
      walks, history[history >= 0].tolist(), range(NUM_ITEMS)
    )
    assert len(masses) > 1
    for item, mass in masses.items():
      row[item] += 0.3 * mass
  beams = jax.device_get(retriever.search(_ensemble(members), BATCH, 1))
  np.testing.assert_array_equal(
    beams.items[:, :NUM_ITEMS], np.argsort(-probabilities, 1)
  )
  np.testing.assert_allclose(
    beams.scores[:, :NUM_ITEMS], np.log(-np.sort(-probabilities, 1)), atol=1e-4
  )


def test_equal_members_rank_like_one_of_them(model, members):
  catalog = Catalog.from_codes(CODES, LEVEL_SIZES)
  retriever = TigerRetriever(model, catalog, 4)
  alone, beams = (
    jax.device_get(retriever.search_exact(params, BATCH, 4))
    for params in (members[0], _ensemble([members[0]] * 2))
  )
  np.testing.assert_array_equal(beams.items, alone.items)
  np.testing.assert_allclose(beams.scores, alone.scores, atol=1e-4)
