"""Tests of the measurements of histories, against examples done by hand."""

import collections
import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from tests.walks import make_dataset
from tiger_jax.config import DatasetConfig
from tiger_jax.data.checking import histories
from tiger_jax.data.loading import load_dataset

#             user 0              user 1     user 2
HISTORIES = [[0, 1, 2, 0, 4], [3, 1, 1], [3, 1, 1]]
TIMES = [[1, 1, 2, 5, 5], [1, 2, 3], [7, 7, 8]]


def timed(rows=HISTORIES, times=TIMES, num_items=7):
  dataset = make_dataset(rows, num_items)
  return dataclasses.replace(
    dataset, timestamps=np.concatenate(times).astype(np.int64)
  )


def test_lengths_are_those_counted_by_hand():
  assert histories.lengths(timed()) == histories.Lengths(3, 3.0, 4.6, 5)


def test_ties_are_those_counted_by_hand():
  # User 0: events 0 and 1, and the two targets. User 2: events 0 and 1, of
  # which the second is the validation target.
  assert histories.ties(timed()) == histories.Ties(6, 2, 1)


def test_equal_times_of_two_users_are_no_tie():
  times = [[1, 2, 3, 4, 5], [5, 6, 7], [7, 8, 9]]
  assert histories.ties(timed(times=times)) == histories.Ties(0, 0, 0)


def test_without_times_there_are_no_ties():
  dataset = dataclasses.replace(timed(), timestamps=None)
  assert histories.ties(dataset) is None
  assert histories.leaks(dataset).later is None


def test_leaks_are_those_found_by_hand():
  leaks = histories.leaks(timed())
  # Users 1 and 2 have item 1 twice in a row.
  assert (leaks.repeated, leaks.repeated_at_once) == (2, 2)
  assert (leaks.copies, leaks.first_copy) == (1, ('1', '2'))


def test_an_earlier_repeat_is_not_one_just_before():
  leaks = histories.leaks(
    timed([[4, 1, 4], [3, 1, 2], [3, 1, 1]], [[0] * 3] * 3)
  )
  assert (leaks.repeated, leaks.repeated_at_once) == (2, 1)


def test_a_longer_history_is_no_copy():
  dataset = make_dataset([[0, 1, 2], [0, 1, 2, 3], [1, 2, 0]], 4)
  assert histories.leaks(dataset).copies == 0


def test_the_share_of_later_events_is_a_mean_over_targets():
  # Training events are at times 1, 1, 2 (user 0), 1 (user 1) and 7 (user 2).
  # After the targets at 5, 3 and 8 there are 1, 1 and 0 of 5.
  assert np.isclose(histories.leaks(timed()).later, (1 + 1 + 0) / 3 / 5)


def test_an_event_at_the_time_of_a_target_is_not_later():
  dataset = timed([[0, 1, 2], [0, 1, 3]], [[4, 5, 6], [6, 7, 8]])
  # Only the event at time 6 could be later than the target at time 6.
  assert histories.leaks(dataset).later == 0


def test_the_split_is_that_counted_by_hand():
  # Training: 0, 1, 2 (user 0), 3 (users 1 and 2). Validation: 0, 1, 1. Test: 4,
  # 1, 1. Items 5 and 6 have no event.
  assert histories.split(timed()) == histories.Split(
    trained_users=1, train=2, trained_items=4, cold_validation=0, cold_test=1,
    test_only=1, never_bought=2,
  )  # fmt: skip


def test_an_item_of_a_validation_target_is_not_only_in_test():
  dataset = make_dataset([[0, 1, 2], [0, 2, 1], [0, 3, 3]], 4)
  split = histories.split(dataset)
  assert (split.cold_validation, split.cold_test, split.test_only) == (3, 3, 0)


_SHOPS = st.lists(
  st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=6
  ),
  min_size=1,
  max_size=6,
)


@given(_SHOPS)
@settings(max_examples=60, deadline=None)
def test_measurements_equal_loops_over_users(shop):
  shop = [sorted(user, key=lambda event: event[1]) for user in shop]
  items = [[item for item, _ in user] for user in shop]
  times = [[time for _, time in user] for user in shop]
  dataset = timed(items, times, 5)
  tied = sum(
    number
    for user in times
    for number in collections.Counter(user).values()
    if number > 1
  )
  assert histories.ties(dataset) == histories.Ties(
    tied,
    sum(x[-2] in (x[-1], x[-3]) for x in times),
    sum(x[-1] == x[-2] for x in times),
  )
  leaks = histories.leaks(dataset)
  assert leaks.repeated == sum(x[-1] in x[:-1] for x in items)
  assert leaks.copies == len(items) - len(set(map(tuple, items)))
  seen = [time for user in times for time in user[:-2]]
  later = [sum(x > user[-1] for x in seen) / len(seen) for user in times]
  assert np.isclose(leaks.later, np.mean(later))
  trained = {x for user in items for x in user[:-2]}
  split = histories.split(dataset)
  assert split.cold_test == sum(x[-1] not in trained for x in items)
  assert split.cold_validation == sum(x[-2] not in trained for x in items)
  before = trained | {x[-2] for x in items}
  assert split.test_only == len({x[-1] for x in items} - before)
  assert split.train == sum(len(x) - 3 for x in items)
  assert split.trained_users == sum(len(x) > 3 for x in items)


def test_the_measurements_of_beauty_equal_slow_ones(data_root):
  config = DatasetConfig(
    name='amazon2014/Beauty',
    source_dir=str(data_root / 'amazon2014_beauty'),
    allow_missing_metadata=True,
  )
  dataset = load_dataset(config, seed=0)
  users = [dataset.history_of(u).tolist() for u in range(dataset.num_users)]
  pairs = zip(dataset.offsets, dataset.offsets[1:], strict=False)
  times = [dataset.timestamps[a:b].tolist() for a, b in pairs]
  ties = histories.ties(dataset)
  assert ties.test == sum(x[-1] == x[-2] for x in times) == 9719
  assert ties.validation == sum(x[-2] in (x[-1], x[-3]) for x in times)
  trained = {item for user in users for item in user[:-2]}
  split = histories.split(dataset)
  assert split.trained_items == len(trained)
  assert split.cold_test == sum(x[-1] not in trained for x in users)
  leaks = histories.leaks(dataset)
  assert leaks.copies == len(users) - len(set(map(tuple, users)))
