"""Exact searches, with a stub that returns given values of `exact_k`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch, ItemLists
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval import tiger as retriever_module
from tiger_jax.retrieval.beam_search import Beams
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
  """A retriever that returns given `exact_k` values and records its searches.

  Attributes:
    proven: The `exact_k` of every user, by number of beams.
    num_valid: The number of valid beams of every user.
    searches: The number of beams and the inputs of each search.
  """

  def __init__(self, proven, num_valid=(99,) * NUM_REQUESTS, **limits):
    # The catalog has spare rows for all items in `BATCH`.
    catalog = Catalog.from_codes(np.array([[0, 1]], np.int32), LEVEL_SIZES)
    super().__init__(Tiger(ModelConfig(), LEVEL_SIZES), catalog, 4, **limits)
    self.proven = proven
    self.num_valid = np.array(num_valid)
    self.searches = []

  def answer(self, model, num_beams, constrained, *inputs):
    _, _, batch, lists, sampler, mixture = inputs
    assert mixture is None
    self.searches.append((num_beams, batch, lists, sampler))
    shape = len(batch.user), num_beams
    # Each item encodes the user and the number of beams.
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
  def make(*args, **limits):
    retriever = _Stub(*args, **limits)
    monkeypatch.setattr(retriever_module, '_search', retriever.answer)
    return retriever

  return make


def test_only_unproven_requests_are_searched_again(stub):
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
  beams = retriever.search_exact(None, BATCH, 3, lists=lists, sampler=sampler)
  # Repeating the first unproven requests pads their number to a power of two.
  unproven = [0, 2, 4, 6, 7, 0, 2, 4], [2, 4]
  expected = zip((4, 8, 16), ([*range(8)], *unproven), strict=True)
  for search, (num_beams, rows) in zip(
    retriever.searches, expected, strict=True
  ):
    part = jax.tree.map(lambda x, r=rows: x[r], (BATCH, lists, sampler.seeds))
    assert search[0] == num_beams
    inputs = *search[1:3], search[3].seeds
    jax.tree.map(np.testing.assert_array_equal, inputs, part)
    assert search[3].temperature == sampler.temperature
    assert search[3].num_levels == sampler.num_levels
  widths = np.array([8, 4, 16, 4, 16, 4, 8, 8])
  items = np.repeat((100 * widths + np.arange(8))[:, None], 4, 1)
  np.testing.assert_array_equal(beams.items, items)
  np.testing.assert_array_equal(beams.scores, -items)
  assert beams.codes.shape == (8, 4, 2) and beams.valid.all()
  # `exact_k` is limited to the number of beams.
  assert beams.exact_k.tolist() == [4, 3, 3, 4, 4, 3, 4, 3]


def test_an_exact_search_stops_at_the_maximum_number_of_beams(stub):
  proven = {n: [n // 8] * NUM_REQUESTS for n in (4, 8, 16)}
  retriever = stub(proven, max_proof_beams=16)
  beams = retriever.search_exact(None, BATCH, 3)
  assert [num_beams for num_beams, *_ in retriever.searches] == [4, 8, 16]
  assert (beams.exact_k == 2).all()


def test_the_number_of_beams_is_doubled_until_it_reaches_k(stub):
  retriever = stub({n: [0] * NUM_REQUESTS for n in (4, 8, 16)})
  for k, num_beams in ((1, 4), (4, 4), (5, 8), (8, 8), (9, 16)):
    beams = retriever.search(None, BATCH, k)
    assert beams.items.shape == (NUM_REQUESTS, num_beams)
    beams = retriever.recommend(None, BATCH, k)
    assert beams.items.shape == beams.scores.shape == (NUM_REQUESTS, k)
    assert (
      retriever.searches.pop()[0] == retriever.searches.pop()[0] == num_beams
    )


def test_requests_with_fewer_than_k_items_are_not_searched_again(stub):
  num_valid = [0, 1, 2, 3, 4, 2, 1, 0]
  retriever = stub({4: num_valid, 8: [8] * 8}, num_valid)
  beams = retriever.search_exact(None, BATCH, 3)
  assert len(retriever.searches) == 1
  np.testing.assert_array_equal(beams.exact_k, num_valid)
  retriever.proven[4] = [0, 1, 1, 3, 4, 2, 1, 0]
  retriever.search_exact(None, BATCH, 3)
  assert retriever.searches[2][1].user.tolist() == [2]


def test_padding_rows_are_not_searched_again(stub):
  retriever = stub({4: [0] * 8, 8: [8] * 8})
  is_padding = np.arange(8) >= 3
  batch = Batch(
    np.where(is_padding[:, None], -1, BATCH.history),
    np.where(is_padding, -1, BATCH.user),
    BATCH.target,
  )
  retriever.search_exact(None, batch, 3)
  (_, first, *_), (num_beams, second, *_) = retriever.searches
  assert len(first.user) == 8 and num_beams == 8
  assert second.user.tolist() == [0, 1, 2, 0]


def test_searches_with_many_beams_have_fewer_requests(stub):
  retriever = stub({4: [0] * 8, 8: [8] * 8}, max_total_beams=24)
  beams = retriever.search_exact(None, BATCH, 3)
  users = [batch.user.tolist() for _, batch, *_ in retriever.searches]
  assert users[1:] == [[0, 1], [2, 3], [4, 5], [6, 7]]
  assert (beams.exact_k == 4).all()
  np.testing.assert_array_equal(beams.items[:, 0], 800 + np.arange(8))
