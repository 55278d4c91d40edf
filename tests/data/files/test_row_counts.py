"""Tests that every row is counted once, with samples of dropped rows."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tiger_jax.data import counts
from tiger_jax.data.files.row_counts import RowCounts


def test_dropped_rows_have_three_samples_per_reason():
  rows = RowCounts()
  rows.keep()
  for number in range(5):
    rows.drop('without a user', f'x.csv, row {number}', number)
  rows.keep(3)
  rows.drop('not a record', 'x.csv, row 9', 'a\nb' + 'c' * 100)
  assert (rows.num_read, rows.kept, rows.num_dropped) == (10, 4, 6)
  assert rows.as_json() == {
    'read': 10,
    'kept': 4,
    'dropped': {
      'without a user': {
        'rows': 5,
        'samples': ['x.csv, row 0: 0', 'x.csv, row 1: 1', 'x.csv, row 2: 2'],
      },
      'not a record': {
        'rows': 1,
        'samples': ["x.csv, row 9: 'a\\nb" + 'c' * 35 + '...'],
      },
    },
  }


@given(st.lists(st.one_of(st.integers(0, 9), st.sampled_from(['a', 'b']))))
def test_every_row_is_kept_or_dropped(actions):
  rows = RowCounts()
  for action in actions:
    if isinstance(action, int):
      rows.keep(action)
    else:
      rows.drop(action, 'x.csv, row 1', None)
  result = rows.as_json()
  dropped = [entry['rows'] for entry in result['dropped'].values()]
  assert result['read'] == result['kept'] + sum(dropped) == rows.num_read
  assert sum(dropped) == sum(isinstance(x, str) for x in actions)
  assert json.loads(json.dumps(result)) == result


def test_the_counts_are_printed():
  rows, bad = RowCounts(), RowCounts()
  rows.keep(7)
  bad.keep(2)
  bad.drop('without a user', 'i.csv, row 3', '\x1b[2J')
  bad.drop('not a record', 'i.csv, row 4', None)
  # A table without dropped rows has no line.
  shown = counts.lines(
    {'rows': {'interactions': bad.as_json(), 'items': rows.as_json()}}
  )
  assert shown == [
    'rows of interactions: 4 read, 2 kept; dropped: 1 without a user '
    "(i.csv, row 3: '\\x1b[2J'), 1 not a record (i.csv, row 4: None)",
  ]
