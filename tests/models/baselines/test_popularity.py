"""The popularity baseline on purchases that can be counted by hand."""

import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.popularity import Popularity
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.items import ItemRetriever

BATCH = Batch(
  np.array([[3, -1], [0, 2]], np.int32),
  np.array([0, 1], np.int32),
  np.array([1, -1], np.int32),
)
# Item 4 is bought three times, 1 and 3 twice, 0 once, 2 and 5 never.
BOUGHT = np.array([3, 4, 1, 4, 0, 1, 3, 4], np.int32)
ORDER = [4, 1, 3, 0, 2, 5]
COUNTS = [3, 2, 2, 1, 0, 0]


def recommend(num_items, bought, k, lists=None):
  model = Popularity(ModelConfig(name='popularity'), num_items, 2)
  counts = np.bincount(bought, minlength=num_items).astype(np.float32)
  return ItemRetriever(model, counts).recommend({}, BATCH, k, lists)


@pytest.mark.parametrize('k', [1, 3, 6])
def test_most_bought_first_ties_by_row(k):
  found = recommend(6, BOUGHT, k)
  np.testing.assert_array_equal(found.items, [ORDER[:k]] * 2)
  np.testing.assert_array_equal(found.scores, [COUNTS[:k]] * 2)
  assert found.valid.shape == (2, k) and found.valid.all()


def test_a_large_catalogue_breaks_ties_by_row_too():
  """Large enough for a sort that is not stable to show."""
  bought = np.repeat(np.arange(0, 300, 2), 2)
  found = recommend(300, bought, 300)
  expected = [*range(0, 300, 2), *range(1, 300, 2)]
  np.testing.assert_array_equal(found.items, [expected] * 2)


def test_more_than_the_catalogue_is_marked_invalid():
  found = recommend(6, BOUGHT, 8)
  np.testing.assert_array_equal(found.items, [[*ORDER, -1, -1]] * 2)
  np.testing.assert_array_equal(found.scores, [[*COUNTS, -np.inf, -np.inf]] * 2)
  np.testing.assert_array_equal(found.valid, [[True] * 6 + [False] * 2] * 2)


def test_without_any_event_the_rows_are_in_order():
  found = recommend(3, np.zeros(0, np.int32), 3)
  np.testing.assert_array_equal(found.items, [[0, 1, 2]] * 2)


def test_lists_deny_and_allow():
  lists = ItemLists.of([[4, 3], [1]], [None, [2, 1, 5]])
  found = recommend(6, BOUGHT, 4, lists)
  np.testing.assert_array_equal(found.items, [[1, 0, 2, 5], [2, 5, -1, -1]])
  np.testing.assert_array_equal(found.valid[1], [True, True, False, False])
