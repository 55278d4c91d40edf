# ruff: noqa: F811
"""Tests of the mixture of transitions with the real network of TIGER."""

import numpy as np
import pytest

from tests.retrieval.test_tiger import (
  NUM_ITEMS,
  NUM_REQUESTS,
  assert_lowers_at_full_precision,
  batch,  # noqa: F401
  item_scores,  # noqa: F401
  make_retriever,
  params,  # noqa: F401
)
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import ItemLists
from tiger_jax.models.baselines.transitions import WEIGHTS, Transitions
from tiger_jax.retrieval.mixture import Gate, Mixture
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.runtime.sharding import make_mesh, replicate, shard_batch


def make_mixture():
  """Returns a mixture in which each item has two successors."""
  rows = np.arange(20)
  pairs = [np.stack([rows, (rows + step) % 13], 1) for step in (1, 5)]
  table = Transitions.from_pairs(np.concatenate(pairs), np.ones(20, int))
  return Mixture.of(table, Gate(0.6))


def test_a_mixture_ranks_every_item(params, batch, item_scores):
  retriever = make_retriever(16).with_mixture(make_mixture())
  masses = np.zeros((NUM_REQUESTS, NUM_ITEMS))
  for row, history in zip(masses, batch.history, strict=True):
    for weight, item in zip(WEIGHTS, history[history >= 0][::-1], strict=False):
      row[[(item + 1) % 13, (item + 5) % 13]] += weight
  masses /= masses.sum(1, keepdims=True)
  expected = np.log(0.4 * np.exp(item_scores) + 0.6 * masses)
  mesh = make_mesh()
  spread = retriever.with_catalog(replicate(mesh, retriever.catalog))
  spread = spread.with_mixture(replicate(mesh, retriever.mixture))
  for beams in (
    retriever.search(params, batch, 1),
    # Eight devices return the same results as one device.
    spread.search(replicate(mesh, params), shard_batch(mesh, batch), 1),
  ):
    np.testing.assert_allclose(
      beams.scores[:, :NUM_ITEMS], -np.sort(-expected, axis=1), atol=1e-5
    )
    items = np.asarray(beams.items[:, :NUM_ITEMS])
    scores = np.take_along_axis(expected, items, 1)
    np.testing.assert_allclose(beams.scores[:, :NUM_ITEMS], scores, atol=1e-5)
  # With two beams per request, `search` proves some of its results, not all.
  # `search_exact` adds beams until it has proved two results of every request.
  few = retriever.search(params, batch, 1, num_beams=2)
  assert 0 < np.asarray(few.exact_k).sum() < 2 * NUM_REQUESTS
  exact = retriever.search_exact(params, batch, 2, num_beams=2)
  assert (exact.exact_k == 2).all()
  np.testing.assert_array_equal(exact.items, items[:, :2])


@pytest.mark.parametrize(
  'options',
  [
    {'constrained': False},
    {'sampler': Sampler(np.zeros(8, np.uint32), np.float32(1), np.int32(2))},
  ],
)
def test_a_mixture_refuses_unconstrained_and_sampled_search(
  params, batch, options
):
  retriever = make_retriever(4).with_mixture(make_mixture())
  with pytest.raises(UsageError, match='transition_weight to 0') as error:
    retriever.search(params, batch, 4, **options)
  assert '\n' not in str(error.value)


def test_a_search_with_a_mixture_lowers_for_every_platform(params, batch):
  lists = ItemLists.of([[1]] * NUM_REQUESTS)
  assert_lowers_at_full_precision(params, batch, make_mixture(), lists=lists)
