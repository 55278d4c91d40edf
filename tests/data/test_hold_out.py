"""Tests of unseen items: items without purchases in training."""

import numpy as np
import pytest

from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.hold_out import without_purchases
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import DataError


def test_unseen_items_occur_only_as_last_events():
  dataset = synthetic.make(400, seed=0)
  result = without_purchases(dataset, 0.1, seed=3)
  tests = np.unique(dataset.history[dataset.offsets[1:] - 1])
  assert 0.08 * len(tests) < len(result.unseen) <= round(0.1 * len(tests))
  last = result.offsets[1:] - 1
  before = np.ones(result.num_interactions, bool)
  before[last] = False
  assert not np.isin(result.history[before], result.unseen).any()
  assert set(result.unseen) <= set(result.history[last].tolist())
  assert np.diff(result.offsets).min() >= 3
  assert result.items is dataset.items


def test_histories_keep_all_events_of_seen_items():
  dataset = synthetic.make(400, seed=0)
  result = without_purchases(dataset, 0.1, seed=3)
  removed = set(dataset.history.tolist()) - set(result.history.tolist())
  assert len(removed) < 0.1 * dataset.num_items
  rows = {user: row for row, user in enumerate(dataset.user_ids)}
  for row, user in enumerate(result.user_ids[:50]):
    *before, last = dataset.history_of(rows[user]).tolist()
    excluded = set(result.unseen) | removed
    assert result.history_of(row).tolist() == [
      *(item for item in before if item not in excluded),
      last,
    ]


def test_the_choice_of_unseen_items_depends_on_the_seed():
  dataset = synthetic.make(200, seed=0)
  first, again, other = (
    without_purchases(dataset, 0.1, seed).unseen.tolist() for seed in (1, 1, 2)
  )
  assert first == again != other


def test_timestamps_stay_with_their_events(tmp_path):
  dataset = synthetic.make(200, seed=0)
  times = np.arange(dataset.num_interactions)
  dataset = Dataset(
    'shop', dataset.items, dataset.user_ids, dataset.history, dataset.offsets,
    times,
  )  # fmt: skip
  result = without_purchases(dataset, 0.1, seed=3)
  np.testing.assert_array_equal(
    dataset.history[result.timestamps], result.history
  )
  result.save(tmp_path)
  np.testing.assert_array_equal(Dataset.load(tmp_path).unseen, result.unseen)


@pytest.mark.parametrize(
  ('share', 'reason'), [(0.01, 'less than one'), (0.99, 'three events')]
)
def test_a_share_out_of_range_raises_a_one_line_error(share, reason):
  """A share of .99 holds out all three items, so each user keeps one event."""
  text = ('',) * 4
  names = ('title', 'price', 'brand', 'categories', 'description')
  items = Items(('a', 'b', 'c', 'd'), dict.fromkeys(names, text))
  walks = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
  dataset = Dataset(
    'shop',
    items,
    ('u', 'v', 'w'),
    np.array(walks, np.int32).ravel(),
    np.array([0, 3, 6, 9]),
  )
  with pytest.raises(DataError, match=reason) as error:
    without_purchases(dataset, share, seed=0)
  assert '\n' not in str(error.value)
