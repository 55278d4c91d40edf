"""Searches as wide as need be, by a stub that proves what it is told to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever

NUM_REQUESTS = 8
LEVEL_SIZES = (2, 2)
BATCH = Batch(
  np.arange(24, dtype=np.int32).reshape(8, 3),
  np.arange(8, dtype=np.int32),
  np.full(8, -1, np.int32),
)


class _Stub(TigerRetriever):
  """Remembers what it was asked."""

  def __init__(self, proven, num_valid=(99,) * NUM_REQUESTS):
    # It has spare rows, one for each in `BATCH`.
    catalog = Catalog.from_codes(np.array([[0, 1]], np.int32), LEVEL_SIZES)
    super().__init__(Tiger(ModelConfig(), LEVEL_SIZES), catalog, 4)
    self.proven = proven
    self.num_valid = np.array(num_valid)
    self.asked = []

  def answer(self, model, num_beams, constrained, *inputs):
    _, _, batch, lists, sampler = inputs
    self.asked.append((num_beams, batch, lists, sampler))
    shape = len(batch.user), num_beams
    # What is found says who asked, and how wide the search was.
    items = np.broadcast_to(100 * num_beams + batch.user[:, None], shape)
    exact_k = [self.proven[num_beams][user] for user in batch.user]
    return Beams(
      *map(
        jnp.asarray,
        (
          items,
          np.broadcast_to(items[:, :, None], (*shape, len(LEVEL_SIZES))),
          -1.0 * items,
          np.arange(num_beams)[None] < self.num_valid[batch.user, None],
          np.array(exact_k, np.int32),
        ),
      )
    )


@pytest.fixture(name='stub')
def _make_stub(monkeypatch):
  def make(*args):
    retriever = _Stub(*args)
    monkeypatch.setattr(retriever_module, '_search', retriever.answer)
    return retriever

  return make


def test_only_what_is_not_proven_is_searched_again(stub):
  retriever = stub(
    {
      4: [0, 3, 1, 4, 2, 3, 2, 2],
      8: [8, 0, 2, 0, 1, 0, 8, 3],
      16: [0, 0, 3, 0, 16, 0, 0, 0],
    }
  )
  lists = ItemLists.of([[i, i + 9] for i in range(8)], [None, [3]] * 4)
  seeds = np.arange(8, dtype=np.uint32) + 5
  sampler = Sampler(seeds, np.float32(1.5), np.int32(2))
  found = retriever.search_exact(None, BATCH, 3, lists=lists, sampler=sampler)
  # As many as a power of two, of which the first stand for the rest.
  again = [0, 2, 4, 6, 7, 0, 2, 4], [2, 4]
  expected = zip((4, 8, 16), ([*range(8)], *again), strict=True)
  for asked, (num_beams, open_) in zip(retriever.asked, expected, strict=True):
    part = jax.tree.map(lambda x, o=open_: x[o], (BATCH, lists, sampler.seeds))
    assert asked[0] == num_beams
    given = *asked[1:3], asked[3].seeds
    jax.tree.map(np.testing.assert_array_equal, given, part)
    assert asked[3].temperature == sampler.temperature
    assert asked[3].num_levels == sampler.num_levels
  widths = np.array([8, 4, 16, 4, 16, 4, 8, 8])
  items = np.repeat((100 * widths + np.arange(8))[:, None], 4, 1)
  np.testing.assert_array_equal(found.items, items)
  np.testing.assert_array_equal(found.scores, -items)
  assert found.codes.shape == (8, 4, 2) and found.valid.all()
  # No more is proven than there is.
  assert found.exact_k.tolist() == [4, 3, 3, 4, 4, 3, 4, 3]


def test_an_exact_search_ends(stub, monkeypatch):
  monkeypatch.setattr(retriever_module, '_MAX_PROOF_BEAMS', 16)
  retriever = stub({n: [n // 8] * NUM_REQUESTS for n in (4, 8, 16)})
  found = retriever.search_exact(None, BATCH, 3)
  assert [num_beams for num_beams, *_ in retriever.asked] == [4, 8, 16]
  assert (found.exact_k == 2).all()


def test_beams_are_doubled_until_they_are_enough(stub):
  retriever = stub({n: [0] * NUM_REQUESTS for n in (4, 8, 16)})
  for k, num_beams in ((1, 4), (4, 4), (5, 8), (8, 8), (9, 16)):
    found = retriever.search(None, BATCH, k)
    assert found.items.shape == (NUM_REQUESTS, num_beams)
    found = retriever.recommend(None, BATCH, k)
    assert found.items.shape == found.scores.shape == (NUM_REQUESTS, k)
    assert retriever.asked.pop()[0] == retriever.asked.pop()[0] == num_beams


def test_those_who_get_fewer_items_are_not_searched_again_for_more(stub):
  num_valid = [0, 1, 2, 3, 4, 2, 1, 0]
  retriever = stub({4: num_valid, 8: [8] * 8}, num_valid)
  found = retriever.search_exact(None, BATCH, 3)
  assert len(retriever.asked) == 1
  np.testing.assert_array_equal(found.exact_k, num_valid)
  retriever.proven[4] = [0, 1, 1, 3, 4, 2, 1, 0]
  retriever.search_exact(None, BATCH, 3)
  assert retriever.asked[2][1].user.tolist() == [2]


def test_rows_that_fill_a_batch_are_not_searched_again(stub):
  retriever = stub({4: [0] * 8, 8: [8] * 8})
  fillers = np.arange(8) >= 3
  batch = Batch(
    np.where(fillers[:, None], -1, BATCH.history),
    np.where(fillers, -1, BATCH.user),
    BATCH.target,
  )
  retriever.search_exact(None, batch, 3)
  (_, first, *_), (num_beams, again, *_) = retriever.asked
  assert len(first.user) == 8 and num_beams == 8
  assert again.user.tolist() == [0, 1, 2, 0]


def test_wide_searches_are_of_few_requests_at_once(stub, monkeypatch):
  monkeypatch.setattr(retriever_module, '_MAX_TOTAL_BEAMS', 24)
  retriever = stub({4: [0] * 8, 8: [8] * 8})
  found = retriever.search_exact(None, BATCH, 3)
  asked = [batch.user.tolist() for _, batch, *_ in retriever.asked]
  assert asked[1:] == [[0, 1], [2, 3], [4, 5], [6, 7]]
  assert (found.exact_k == 4).all()
  np.testing.assert_array_equal(found.items[:, 0], 800 + np.arange(8))
