"""Tests of the filters of events against slow versions."""

import collections
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.events import filters
from tiger_jax.data.events.assembly import assemble
from tiger_jax.data.events.log import ItemTexts, Log
from tiger_jax.errors import DataError, UsageError

NAN = math.nan
# User, item, time, rating.
EVENTS = [
  ('a', 'x', 5, 5.0), ('a', 'y', 1, 3.0), ('a', 'x', 2, 4.0),
  ('a', 'z', 9, 5.0), ('a', 'w', 7, 5.0), ('b', 'x', 1, NAN),
  ('b', 'y', 2, 5.0), ('b', 'z', 3, 5.0), ('b', 'x', 4, 5.0),
  ('c', 'x', 1, 5.0), ('c', 'y', 2, 4.5), ('c', 'z', 3, 5.0),
  ('c', 'x', 1, 5.0), ('d', 'w', 1, 5.0),
]  # fmt: skip


def make_log(events):
  """Returns a log of events, which have a user, an item, a time, a rating."""
  users, items, times, ratings = zip(*events, strict=True)
  user_ids, item_ids = list(dict.fromkeys(users)), list(dict.fromkeys(items))
  return Log(
    user_ids,
    np.array([user_ids.index(x) for x in users], np.int32),
    item_ids,
    np.array([item_ids.index(x) for x in items], np.int32),
    np.array(times, np.int64),
    np.array(ratings, np.float32),
  )


def as_events(log):
  columns = log.users, log.items, log.timestamps, log.ratings
  return [
    (log.user_ids[user], log.item_ids[item], int(time), float(rating))
    for user, item, time, rating in zip(*columns, strict=True)
  ]


def config(**settings):
  return DatasetConfig(name='files', **settings)


def slow_core(events, min_user, min_item):
  """Removes one user or item at a time until all have enough events."""
  events = list(events)
  while True:
    users = collections.Counter(x[0] for x in events)
    items = collections.Counter(x[1] for x in events)
    short_user = next((x for x, n in users.items() if n < min_user), None)
    short_item = next((x for x, n in items.items() if n < min_item), None)
    if short_user is None and short_item is None:
      return events
    if short_user is not None:
      events = [x for x in events if x[0] != short_user]
    else:
      events = [x for x in events if x[1] != short_item]


def slow(events, c, users=(), items=()):
  """Applies all filters event by event."""
  kept = []
  for event in events:
    user, item, _, rating = event
    is_rated = not c.min_rating or rating >= c.min_rating
    if user not in users and item not in items and is_rated:
      if c.keep_repeats or not any(x[:3] == event[:3] for x in kept):
        kept.append(event)
  # Each event with its place in the file, which decides between equal times.
  rows = list(enumerate(kept))

  def of(same):
    return sorted(
      (x for x in rows if same(x[1])), key=lambda x: (x[1][2], x[0])
    )

  if c.repeated_items != 'keep':
    end = 0 if c.repeated_items == 'first' else -1
    rows = [
      x for x in rows if of(lambda y, x=x: y[:2] == x[1][:2])[end] == x
    ]  # fmt: skip
  if c.max_history:
    rows = [
      x for x in rows
      if x in of(lambda y, x=x: y[0] == x[1][0])[-c.max_history :]
    ]  # fmt: skip
  kept = [event for _, event in rows]
  if c.drop_short_users or c.k_core or c.min_history > 3:
    kept = slow_core(kept, max(3, c.k_core, c.min_history), c.k_core)
  return kept


_EVENT = st.tuples(
  st.sampled_from('abcd'), st.sampled_from('wxyz'), st.integers(0, 4),
  st.sampled_from([1.0, 3.0, 5.0, NAN]),
)  # fmt: skip
_CONFIG = st.builds(
  dict,
  keep_repeats=st.booleans(),
  repeated_items=st.sampled_from(['keep', 'first', 'last']),
  min_rating=st.sampled_from([0.0, 2.0, 5.0]),
  max_history=st.sampled_from([0, 5, 7]),
  min_history=st.integers(3, 5),
  k_core=st.integers(0, 4),
  drop_short_users=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(
  events=st.lists(_EVENT, min_size=1, max_size=60),
  values=_CONFIG,
  users=st.sets(st.sampled_from('abe'), max_size=2),
  items=st.sets(st.sampled_from('wxv'), max_size=2),
)
def test_all_filters_together_equal_the_slow_version(
  tmp_path_factory, events, values, users, items
):
  lists = {}
  for name, ids in (('users', users), ('items', items)):
    path = tmp_path_factory.getbasetemp() / f'excluded_{name}.txt'
    path.write_text('\n'.join([*ids, '']))
    lists[f'exclude_{name}'] = str(path)
  c = config(**values, **lists)
  expected = slow(events, c, users, items)
  log = make_log(events)
  if not expected:
    with pytest.raises(DataError, match='has no user'):
      filters.apply(c, log)
    return
  result = filters.apply(c, log)
  # A set would not do, because NaN differs from itself.
  assert repr(as_events(result.log)) == repr(as_events(make_log(expected)))
  assert len(events) - len(expected) == sum(result.events.values())
  assert all(result.events.values()) and all(result.users.values())
  num_users = len({x[0] for x in events}), len({x[0] for x in expected})
  assert num_users[0] - num_users[1] == sum(result.users.values())


@pytest.mark.parametrize(
  ('which', 'times'), [('first', [2, 1, 4]), ('last', [3, 2, 4])]
)
def test_one_of_several_events_with_the_same_item_is_kept(which, times):
  # The order of the file is not the order of the times.
  rows = zip('xyxz', [3, 2, 1, 4], strict=True)
  events = [('a', x, time, 5.0) for x, time in rows]
  result = filters.apply(config(repeated_items=which), make_log(events))
  assert result.log.timestamps.tolist() == times


def test_an_event_with_the_lowest_allowed_rating_is_kept():
  ratings = [3.0, 2.9, NAN, 3.1, 3.0]
  events = [('a', x, 1, r) for x, r in zip('vwxyz', ratings, strict=True)]
  result = filters.apply(config(min_rating=3.0), make_log(events))
  kept = [result.log.item_ids[item] for item in result.log.items]
  assert kept == ['v', 'y', 'z']


def drops(**values):
  result = filters.apply(config(**values), make_log(EVENTS))
  return result.events, result.users


def test_reasons_are_counted(tmp_path):
  """The expected counts are worked out by hand."""
  path = tmp_path / 'users.txt'
  path.write_text('\ufeff d \r\n\nnobody\n', encoding='utf-8')
  repeats = {'exact repeats': 1}
  assert drops() == (repeats, {})
  assert drops(exclude_users=str(path)) == (
    {'of excluded users': 1, **repeats}, {'excluded': 1}
  )  # fmt: skip
  path.write_text('w')
  assert drops(exclude_items=str(path)) == (
    {'of excluded items': 2, **repeats}, {'by exclude_items': 1}
  )  # fmt: skip
  assert drops(min_rating=4.5) == (
    {'without a rating': 1, 'rated below 4.5': 2, **repeats},
    {},
  )
  assert drops(repeated_items='first') == (
    {**repeats, 'later events with the same user and item': 2},
    {},
  )
  assert drops(repeated_items='last') == (
    {**repeats, 'earlier events with the same user and item': 2},
    {},
  )
  assert drops(max_history=4) == (
    {**repeats, 'before the latest 4 of a user': 1},
    {},
  )
  few = 'with fewer than 3 events'
  assert drops(drop_short_users=True) == (
    {**repeats, f'of users {few}': 1},
    {few: 1},
  )
  # User d has one event, so item w has only one event, which user a has.
  assert drops(k_core=2) == (
    {**repeats, f'of users {few}': 1, 'of items with fewer than 2 events': 1},
    {few: 1},
  )


def assembled(tmp_path, texts='vwxyz', **values):
  return assemble(
    config(**values),
    make_log(EVENTS),
    None if texts is None else ItemTexts(tuple(texts), {}),
    'events.csv',
    'items.csv',
  )


def test_a_dataset_has_only_the_remaining_items(tmp_path):
  path = tmp_path / 'items.txt'
  path.write_text('y\nY\n')
  c = {'drop_short_users': True}
  every = assembled(tmp_path, **c)
  assert sorted(every.items.ids) == list('vwxyz')
  assert every.counts['items'] == {'read': 5, 'used': 5, 'never_bought': 1}
  excluded = assembled(tmp_path, exclude_items=str(path), **c)
  assert sorted(excluded.items.ids) == list('vwxz')
  core = assembled(tmp_path, k_core=2)
  assert sorted(core.items.ids) == list('xyz')
  assert counts.lines(core.counts) == [
    'events: 14 read, 11 used; dropped: 1 exact repeats, 1 of users with fewer '
    'than 3 events, 1 of items with fewer than 2 events',
    'users: 4 read, 3 used; dropped: 1 with fewer than 3 events',
    'items: 5 read, 3 used; dropped: 2 with fewer than 2 events',
  ]
  assert counts.lines(excluded.counts)[2:] == [
    'items: 5 read, 4 used, 1 of them never bought; dropped: 1 excluded',
    "exclude_items: 1 of 2 ids are not in the data, such as 'Y' (1 of 1 match "
    'when case is ignored)',
  ]


def test_without_an_items_file_ids_are_the_titles(tmp_path):
  dataset = assembled(tmp_path, texts=None, drop_short_users=True)
  assert sorted(dataset.items.ids) == list('wxyz')
  assert dataset.items.title(0) == dataset.items.ids[0]
  assert 'missing' not in dataset.counts
  assert dataset.counts['notes'] == [
    'there is no items file, so the ids of items are their titles'
  ]


def test_without_times_the_order_of_the_file_counts():
  log = make_log(EVENTS)._replace(timestamps=None)
  dataset = assemble(
    config(max_history=3, drop_short_users=True), log, None, 'events', ''
  )
  ids = dataset.items.ids
  assert dataset.timestamps is None
  assert [[ids[x] for x in dataset.history_of(user)] for user in range(3)] == [
    list('xzw'), list('yzx'), list('yzx')
  ]  # fmt: skip


def test_short_users_are_refused_if_nothing_drops_them(tmp_path):
  with pytest.raises(DataError) as caught:
    assembled(tmp_path, min_rating=4.6)
  assert str(caught.value) == (
    'events.csv has 2 users with fewer than 3 events (1 without a rating and 3 '
    'rated below 4.6 and 1 exact repeats do not count), such as '
    "'c' with 2: add events or set config.dataset.drop_short_users=True"
  )


@pytest.mark.parametrize(
  ('values', 'words'),
  [
    ({'min_rating': 6.0}, '13 of its 14 events are rated below 6; change '),
    ({'k_core': 5}, 'change config.dataset.k_core'),
    ({'min_history': 6}, 'fewer than 6 events; add events'),
  ],
)
def test_the_error_names_the_filter_that_drops_most(values, words):
  with pytest.raises(DataError) as caught:
    filters.apply(config(**values), make_log(EVENTS), 'e.csv')
  text = str(caught.value)
  assert text.startswith('e.csv has no user with at least')
  assert words in text and '\n' not in text


def test_a_source_without_ratings_is_refused():
  log = make_log(EVENTS)._replace(ratings=None)
  with pytest.raises(DataError, match=r'e\.csv has no ratings'):
    filters.apply(config(min_rating=3.0), log, 'e.csv')
  with pytest.raises(DataError, match='has no events'):
    filters.apply(config(), log.select(np.zeros(14, bool)), 'e.csv')


@pytest.mark.parametrize('kind', ['missing', 'folder', 'bytes'])
def test_a_list_that_cannot_be_read_is_refused(tmp_path, kind):
  path = tmp_path / 'ids.txt'
  if kind == 'folder':
    path.mkdir()
  elif kind == 'bytes':
    path.write_bytes(b'\xff\xfe\xff')
  with pytest.raises(DataError) as caught:
    filters.apply(config(exclude_items=str(path)), make_log(EVENTS))
  assert f'config.dataset.exclude_items: {path} cannot' in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('values', 'words'),
  [
    ({'min_history': 2}, 'min_history is 2: choose at least 3'),
    ({'k_core': -1}, 'k_core is -1'),
    ({'max_history': -1}, 'max_history is -1'),
    ({'max_history': 2}, 'max_history is 2, which leaves no user'),
    ({'max_history': 4, 'k_core': 5}, 'choose at least 5'),
    ({'max_history': 4, 'min_history': 6}, 'choose at least 6'),
    ({'min_rating': NAN}, 'min_rating is nan'),
    ({'min_rating': math.inf}, 'min_rating is inf'),
    ({'k_core': 10**9}, 'k_core is too large'),
    ({'repeated_items': 'frist'}, 'did you mean first?'),
  ],
)
def test_settings_without_meaning_are_refused(values, words):
  with pytest.raises(UsageError) as caught:
    config(**values)
  assert words in str(caught.value)


def test_filters_are_in_the_fingerprint_only_if_they_are_set(tmp_path):
  assert filters.made_from(config(keep_repeats=True)) == {}
  path = tmp_path / 'ids.txt'
  path.write_text('x')
  settings = {
    'min_rating': 3.0, 'repeated_items': 'last', 'max_history': 9,
    'min_history': 4, 'k_core': 5,
  }  # fmt: skip
  assert filters.made_from(config(**settings)) == settings
  first = filters.made_from(config(exclude_users=str(path)))
  moved = path.rename(tmp_path / 'moved.txt')
  assert filters.made_from(config(exclude_users=str(moved))) == first
  assert filters.made_from(config(exclude_items=str(moved))) != first
  moved.write_text('y')
  assert filters.made_from(config(exclude_users=str(moved))) != first
