"""Maximum inner product search, compared with a sort of all scores."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch, ItemLists, Retriever
from tiger_jax.models.baselines.popularity import Popularity
from tiger_jax.retrieval.items import ItemRetriever, top_items
from tiger_jax.retrieval.tiger import TigerRetriever

SCORES = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)


@pytest.mark.parametrize(
  'recommend',
  [
    ItemRetriever.recommend,
    ItemRetriever.recommend_approximately,
    TigerRetriever.recommend,
  ],
)
def test_every_retriever_has_the_signature_of_the_protocol(recommend):
  # Annotations are compared too.
  assert inspect.signature(recommend) == inspect.signature(Retriever.recommend)


@pytest.mark.parametrize('k', [1, 7, 50])
def test_items_are_ordered_by_score(k):
  result = top_items(jnp.asarray(SCORES), k, None)
  order = np.argsort(-SCORES, axis=1, kind='stable')[:, :k]
  np.testing.assert_array_equal(result.items, order)
  np.testing.assert_array_equal(
    result.scores, np.take_along_axis(SCORES, order, 1)
  )
  assert result.valid.all()


def test_entries_beyond_the_catalog_are_invalid():
  result = top_items(jnp.asarray(SCORES), 60, None)
  assert result.items.shape == (4, 60)
  np.testing.assert_array_equal(result.valid, [[True] * 50 + [False] * 10] * 4)
  assert (np.asarray(result.items)[:, 50:] == -1).all()


def test_lists_are_respected():
  denied = [[3, 9, 49], [], list(range(45)), [0]]
  allowed = [None, [1, 2], None, [0, 5]]
  result = top_items(jnp.asarray(SCORES), 6, ItemLists.of(denied, allowed))
  for row in range(4):
    permitted = set(range(50) if allowed[row] is None else allowed[row])
    permitted -= set(denied[row])
    expected = sorted(permitted, key=lambda i: -SCORES[row, i])[:6]
    items = [i for i in np.asarray(result.items)[row].tolist() if i >= 0]
    assert items == expected
    assert result.valid[row].sum() == len(expected)


def test_an_approximate_search_finds_most_items():
  """The search is exact on a CPU; accelerators may miss 5 % of the items."""
  result = top_items(jnp.asarray(SCORES), 10, None, approximate=True)
  exact = top_items(jnp.asarray(SCORES), 10, None)
  for a, b in zip(result.items.tolist(), exact.items.tolist(), strict=True):
    assert len(set(a) & set(b)) >= 8


def test_only_an_approximate_search_may_miss_items():
  """The results on a CPU are equal, so this test compares the programs."""
  model = Popularity(ModelConfig(name='popularity'), 50, 4)
  retriever = ItemRetriever(model, jnp.asarray(SCORES[0]))
  batch = Batch(*np.zeros((3, 4, 1), np.int32))
  batch = Batch(batch.history, batch.user[:, 0], batch.target[:, 0])
  result = {
    search.__name__: (
      search({}, batch, 7),
      'approx_top_k' in str(jax.make_jaxpr(search, 2)({}, batch, 7)),
    )
    for search in (retriever.recommend, retriever.recommend_approximately)
  }
  assert [x for _, x in result.values()] == [False, True]
  order = np.argsort(-SCORES[0], kind='stable')[:7]
  for recommendations, _ in result.values():
    np.testing.assert_array_equal(recommendations.items, [order] * 4)
