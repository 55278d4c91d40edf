"""The popularity baseline, on events counted by hand."""

import numpy as np
import pytest

from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch, ItemLists
from tiger_jax.models.baselines.popularity import Popularity
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
def test_items_are_ordered_by_count_and_then_by_row(k):
  result = recommend(6, BOUGHT, k)
  np.testing.assert_array_equal(result.items, [ORDER[:k]] * 2)
  np.testing.assert_array_equal(result.scores, [COUNTS[:k]] * 2)
  assert result.valid.shape == (2, k) and result.valid.all()


def test_ties_in_a_large_catalog_are_in_row_order():
  """The catalog is so large that an unstable sort would change the order."""
  bought = np.repeat(np.arange(0, 300, 2), 2)
  result = recommend(300, bought, 300)
  expected = [*range(0, 300, 2), *range(1, 300, 2)]
  np.testing.assert_array_equal(result.items, [expected] * 2)


def test_entries_beyond_the_catalog_are_invalid():
  result = recommend(6, BOUGHT, 8)
  np.testing.assert_array_equal(result.items, [[*ORDER, -1, -1]] * 2)
  np.testing.assert_array_equal(
    result.scores, [[*COUNTS, -np.inf, -np.inf]] * 2
  )
  np.testing.assert_array_equal(result.valid, [[True] * 6 + [False] * 2] * 2)


def test_without_events_items_are_in_row_order():
  result = recommend(3, np.zeros(0, np.int32), 3)
  np.testing.assert_array_equal(result.items, [[0, 1, 2]] * 2)


def test_lists_deny_and_allow_items():
  lists = ItemLists.of([[4, 3], [1]], [None, [2, 1, 5]])
  result = recommend(6, BOUGHT, 4, lists)
  np.testing.assert_array_equal(result.items, [[1, 0, 2, 5], [2, 5, -1, -1]])
  np.testing.assert_array_equal(result.valid[1], [True, True, False, False])
