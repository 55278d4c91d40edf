"""Tests of the random order of events with equal timestamps."""

import dataclasses

import numpy as np
import pytest

from tiger_jax.data.sources import synthetic
from tiger_jax.data.ties import shuffle_ties
from tiger_jax.errors import DataError


def _shop(times):
  dataset = synthetic.make(100, seed=0)
  return dataclasses.replace(dataset, timestamps=times(dataset))


def test_only_ties_are_reordered():
  shop = _shop(lambda d: np.arange(d.num_interactions) // 3)
  shuffled = shuffle_ties(shop, seed=1)
  np.testing.assert_array_equal(shuffled.timestamps, shop.timestamps)
  np.testing.assert_array_equal(shuffled.offsets, shop.offsets)
  changed = 0
  for user in range(shop.num_users):
    events = slice(*shop.offsets[user : user + 2])
    for time in np.unique(shop.timestamps[events]):
      rows = shop.timestamps[events] == time
      before = shop.history[events][rows].tolist()
      after = shuffled.history[events][rows].tolist()
      assert sorted(before) == sorted(after)
      changed += before != after
  assert changed > 50


def test_without_ties_nothing_changes():
  shop = _shop(lambda d: np.arange(d.num_interactions))
  shuffled = shuffle_ties(shop, seed=1)
  np.testing.assert_array_equal(shuffled.history, shop.history)


def test_the_order_depends_on_the_seed():
  shop = _shop(lambda d: np.zeros(d.num_interactions, np.int64))
  first, again, other = (
    shuffle_ties(shop, s).history.tolist() for s in (1, 1, 2)
  )
  assert first == again != other


def test_a_dataset_without_timestamps_is_refused():
  shop = dataclasses.replace(synthetic.make(50, seed=0), timestamps=None)
  with pytest.raises(DataError, match='no timestamps.*shuffle_ties'):
    shuffle_ties(shop, seed=1)
