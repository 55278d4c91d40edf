"""The order of events, and exact repeats of events."""

import numpy as np
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data.sources.assembly import Events, assemble

# User, item, time.
LOG = [
  ('u', 'c', 30),
  ('v', 'a', 20),
  ('u', 'b', 10),
  ('u', 'a', 10),
  ('v', 'b', 10),
  ('u', 'b', 10),  # An exact repeat.
  ('v', 'c', 20),
  ('u', 'a', 40),  # Bought again.
  ('v', 'a', 20),  # An exact repeat.
  ('u', 'c', 10),
]


def dataset(**changes):
  users, items, times = zip(*LOG, strict=True)
  log = Events.from_log(
    ['u', 'v'],
    np.array(['uv'.index(x) for x in users], np.int32),
    ['a', 'b', 'c'],
    np.array(['abc'.index(x) for x in items], np.int32),
    np.array(times, np.int64),
  )
  catalog = {item: {} for item in 'abc'}
  config = DatasetConfig(name='files', **changes)
  return assemble(config, log, catalog, 'events', 'items')


def named(found):
  """Returns each user's items and times."""
  return [
    [
      (found.items.ids[item], time)
      for item, time in zip(
        found.history_of(user).tolist(),
        found.timestamps[
          found.offsets[user] : found.offsets[user + 1]
        ].tolist(),
        strict=True,
      )
    ]
    for user in range(found.num_users)
  ]


def test_events_are_in_the_order_of_time_then_of_the_log():
  assert named(dataset()) == [
    [('b', 10), ('a', 10), ('c', 10), ('c', 30), ('a', 40)],
    [('b', 10), ('a', 20), ('c', 20)],
  ]


@pytest.mark.parametrize(('keep', 'repeats'), [(False, 2), (True, 0)])
def test_exact_repeats_are_kept_where_the_config_says_so(keep, repeats):
  found = dataset(keep_repeats=keep)
  assert found.num_interactions == len(LOG) - repeats
  if keep:
    assert named(found)[1] == [('b', 10), ('a', 20), ('c', 20), ('a', 20)]
