"""Tests of the order of events, and of exact repeats."""

import numpy as np
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data.events.assembly import assemble
from tiger_jax.data.events.log import ItemTexts, Log

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


def assemble_log(**changes):
  users, items, times = zip(*LOG, strict=True)
  log = Log(
    ['u', 'v'],
    np.array(['uv'.index(x) for x in users], np.int32),
    ['a', 'b', 'c'],
    np.array(['abc'.index(x) for x in items], np.int32),
    np.array(times, np.int64),
  )
  config = DatasetConfig(name='files', **changes)
  return assemble(config, log, ItemTexts('abc', {}), 'events', 'items')


def items_and_times(dataset):
  """Returns the item ids and times of each user's events."""
  times = np.split(dataset.timestamps, dataset.offsets[1:-1])
  return [
    [
      (dataset.items.ids[item], int(time))
      for item, time in zip(dataset.history_of(user), times[user], strict=True)
    ]
    for user in range(dataset.num_users)
  ]


def test_events_are_sorted_by_time_and_then_as_in_the_log():
  assert items_and_times(assemble_log()) == [
    [('b', 10), ('a', 10), ('c', 10), ('c', 30), ('a', 40)],
    [('b', 10), ('a', 20), ('c', 20)],
  ]


@pytest.mark.parametrize(('keep', 'repeats'), [(False, 2), (True, 0)])
def test_exact_repeats_are_dropped_unless_config_keeps_them(keep, repeats):
  dataset = assemble_log(keep_repeats=keep)
  assert dataset.num_interactions == len(LOG) - repeats
  if keep:
    assert items_and_times(dataset)[1] == [
      ('b', 10), ('a', 20), ('c', 20), ('a', 20)
    ]  # fmt: skip
