"""Items that nobody has bought before."""

import numpy as np
import pytest

from tiger_jax.data.dataset import Dataset, Items
from tiger_jax.data.hold_out import without_purchases
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import DataError


def test_they_come_only_as_the_last_item():
  dataset = synthetic.make(400, seed=0)
  found = without_purchases(dataset, 0.1, seed=3)
  tests = np.unique(dataset.history[dataset.offsets[1:] - 1])
  assert 0.08 * len(tests) < len(found.unseen) <= round(0.1 * len(tests))
  last = found.offsets[1:] - 1
  before = np.ones(found.num_interactions, bool)
  before[last] = False
  assert not np.isin(found.history[before], found.unseen).any()
  assert set(found.unseen) <= set(found.history[last].tolist())
  assert np.diff(found.offsets).min() >= 3
  assert found.items is dataset.items


def test_all_else_stays():
  dataset = synthetic.make(400, seed=0)
  found = without_purchases(dataset, 0.1, seed=3)
  removed = set(dataset.history.tolist()) - set(found.history.tolist())
  assert len(removed) < 0.1 * dataset.num_items
  rows = {user: row for row, user in enumerate(dataset.user_ids)}
  for row, user in enumerate(found.user_ids[:50]):
    whole = dataset.history_of(rows[user]).tolist()
    *before, last = whole
    gone = set(found.unseen) | removed
    assert found.history_of(row).tolist() == [
      *(item for item in before if item not in gone),
      last,
    ]


def test_the_seed_decides():
  dataset = synthetic.make(200, seed=0)
  one, again, other = (
    without_purchases(dataset, 0.1, seed).unseen.tolist() for seed in (1, 1, 2)
  )
  assert one == again != other


def test_times_stay_with_their_events(tmp_path):
  dataset = synthetic.make(200, seed=0)
  times = np.arange(dataset.num_interactions)
  dataset = Dataset(
    'shop', dataset.items, dataset.user_ids, dataset.history, dataset.offsets,
    times,
  )  # fmt: skip
  found = without_purchases(dataset, 0.1, seed=3)
  np.testing.assert_array_equal(
    dataset.history[found.timestamps], found.history
  )
  found.save(tmp_path)
  np.testing.assert_array_equal(Dataset.load(tmp_path).unseen, found.unseen)


@pytest.mark.parametrize(
  ('share', 'what'), [(0.01, 'less than one'), (0.99, 'three events')]
)
def test_too_few_or_too_many_is_one_line(share, what):
  """Three users of one taste: whatever is taken out, nobody has enough."""
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
  with pytest.raises(DataError, match=what) as error:
    without_purchases(dataset, share, seed=0)
  assert '\n' not in str(error.value)
