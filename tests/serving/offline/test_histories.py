"""Tests of files of histories."""

import dataclasses
import datetime
import json
import os
from pathlib import Path
import tempfile

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pyarrow as pa
from pyarrow import parquet
import pytest

from tests.serving.shop import make_model, make_shop
from tiger_jax.data.files.raw_lines import MAX_LINE_BYTES
from tiger_jax.errors import DataError, UsageError
from tiger_jax.serving.offline import histories
from tiger_jax.serving.offline.histories import FileHistories, RunHistories

GOOD = b'{"user": "ann", "history": ["i100"]}\n'


@pytest.fixture(name='snapshot', scope='module')
def _snapshot():
  return make_shop(make_model()).snapshot


def row(item):
  return int(item[1:]) - 100


ENTRIES = st.lists(
  st.tuples(
    st.text(max_size=5).filter(lambda x: x.isascii()),
    st.lists(
      st.sampled_from([*(f'i{100 + i}' for i in range(14)), 'lamp']),
      max_size=4,
    ),
  ),
  min_size=1,
  max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(
  entries=ENTRIES,
  blanks=st.lists(st.integers(0, 20), max_size=3),
  read_rows=st.integers(1, 7),
  size=st.integers(1, 9),
  is_parquet=st.booleans(),
)
@example(
  entries=[('a', ['i100']), ('b', ['i101']), ('c', [])],
  blanks=[],
  read_rows=3,
  size=2,
  is_parquet=True,
)
def test_parts_hold_all_lines_in_order(
  snapshot, entries, blanks, read_rows, size, is_parquet
):
  with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as m:
    m.setattr(histories, '_ROWS', read_rows)
    path = Path(name) / 'h.jsonl'
    lines = [json.dumps({'user': u, 'history': h}) for u, h in entries]
    for place in blanks:
      lines.insert(place, ' ')
    path.write_text('\n'.join(lines))
    if is_parquet:
      path = path.with_suffix('.parquet')
      users, lists = map(list, zip(*entries, strict=True))
      kind = pa.list_(pa.string())
      parquet.write_table(
        pa.table({'history': pa.array(lists, kind), 'user': users}),
        path,
        row_group_size=5,
      )
    source = FileHistories(snapshot, path)
    assert source.num_users == len(entries)
    starts = list(range(0, len(entries), size))
    for start in reversed(starts):  # Parts may be read in any order.
      part = source.read(start, size)
      expected = entries[start : start + size]
      assert part.users == tuple(user for user, _ in expected)
      assert part.rows == [-1] * len(expected)
      assert part.histories == [
        [row(x) for x in history if x != 'lamp'] for _, history in expected
      ]
      unknown = sum(history.count('lamp') for _, history in expected)
      assert part.num_unknown == unknown


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (b'{', 'line 2 is not a JSON object: write lines such as {"user": "u1"'),
    (b'[1]', 'line 2 is not a JSON object'),
    (b'null', 'line 2 is not a JSON object'),
    (b'\xff\xfe', 'line 2 is not a JSON object'),
    (b'\0', 'line 2 is not a JSON object'),
    (b'[' * 100_000, 'line 2 is not a JSON object'),
    (b'{"user": ' + b'9' * 5000 + b'}', 'line 2 is not a JSON object'),
    (b'{"history": []}', 'line 2 has no user: add it, or remove the line'),
    (b'{"user": "a"}', 'line 2 has no history: add it, or remove the line'),
    (b'{"user": null, "history": []}', 'line 2 has no user'),
    (b'{"user": true, "history": []}', 'line 2: user is True: pass text'),
    (b'{"user": [1], "history": []}', 'line 2: user is [1]: pass text'),
    (b'{"user": "a", "history": "i100"}', "line 2: history is the text 'i100'"),
    (b'{"user": "a", "history": {"i100": 1}}', 'line 2: history is a mapping'),
    (b'{"user": "a", "history": 3}', 'line 2: history is 3: pass a list'),
    (b'{"user": "a", "history": [1.5]}', 'line 2: history[0] is 1.5: pass'),
    (b'{"user": "a", "history": ["i100", null]}', 'line 2: history[1] is None'),
    (b'{"user": "\\ud800", "history": []}', 'which is not valid Unicode'),
    (
      b'{"user": "' + b'u' * 1025 + b'", "history": []}',
      'an id of 1,025 characters: shorten it to 1,024',
    ),
    (b' ' * (MAX_LINE_BYTES + 1), f'longer than {MAX_LINE_BYTES} bytes'),
  ],
)  # fmt: skip
def test_a_wrong_line_is_an_error_with_its_number(
  snapshot, tmp_path, line, message
):
  path = tmp_path / 'h.jsonl'
  path.write_bytes(GOOD + line + b'\n' + GOOD)
  with pytest.raises(DataError) as error:
    FileHistories(snapshot, path)
  assert message in str(error.value)
  assert str(error.value).startswith(f'{path}, line 2')
  assert len(str(error.value)) < 400


@pytest.mark.parametrize(
  ('columns', 'message'),
  [
    ({'user': ['a']}, "has no column 'history'"),
    ({'users': ['a'], 'history': [['i100']]}, "has no column 'user'"),
    ({'user': [None], 'history': [['i100']]}, 'row 1 has no user'),
    ({'user': ['a', 'b'], 'history': [[], None]}, 'row 2 has no history'),
    ({'user': [1.5], 'history': [[]]}, 'row 1: user is 1.5: pass text'),
    ({'user': ['a'], 'history': ['i100']}, "row 1: history is the text 'i100'"),
    ({'user': ['a'], 'history': [[None]]}, 'row 1: history[0] is None'),
    (
      {'user': [datetime.date(2020, 1, 1)], 'history': [[]]},
      'row 1: user is datetime.date(2020, 1, 1): pass text',
    ),
  ],
)
def test_a_wrong_row_is_an_error_with_its_number(
  snapshot, tmp_path, columns, message
):
  path = tmp_path / 'h.parquet'
  parquet.write_table(pa.table(columns), path)
  with pytest.raises(DataError) as error:
    FileHistories(snapshot, path)
  assert message in str(error.value)
  assert str(path) in str(error.value)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('h.jsonl', b'', 'h.jsonl is empty: add at least one history'),
    ('h.jsonl', b'\n \n', 'h.jsonl is empty'),
    ('h.parquet', b'', r'h.parquet cannot be read \(.*\): name a readable'),
    ('h.parquet', GOOD, r'h.parquet cannot be read \(.*\): name a readable'),
    ('h.parquet', b'PAR1' + bytes(99) + b'PAR1', r'cannot be read \('),
    ('h.jsonl', None, r'h.jsonl cannot be read \(No such file or directory\)'),
  ],
)
def test_a_damaged_file_is_an_error(snapshot, tmp_path, name, content, message):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(DataError, match=message):
    FileHistories(snapshot, path)


def test_other_kinds_of_files_are_refused(snapshot, tmp_path):
  with pytest.raises(UsageError, match='name a .jsonl or a .parquet file'):
    FileHistories(snapshot, tmp_path / 'h.csv')
  (tmp_path / 'folder.jsonl').mkdir()
  os.mkfifo(tmp_path / 'pipe.jsonl')
  for name, message in (('folder', 'Is a dir|regular'), ('pipe', 'regular')):
    with pytest.raises(DataError, match=message):
      FileHistories(snapshot, tmp_path / f'{name}.jsonl')


def test_a_file_that_changes_is_an_error(snapshot, tmp_path):
  path = tmp_path / 'h.jsonl'
  path.write_bytes(GOOD)
  source = FileHistories(snapshot, path)
  assert source.read(0, 5).users == ('ann',)
  path.write_bytes(GOOD * 2)
  with pytest.raises(DataError, match='has changed since the start'):
    source.read(0, 5)


def test_a_byte_order_mark_and_integers_are_accepted(snapshot, tmp_path):
  path = tmp_path / 'h.jsonl'
  path.write_bytes(b'\xef\xbb\xbf{"user": 7, "history": [5, "i101"]}\r\n')
  part = FileHistories(snapshot, path).read(0, 9)
  assert part == (('7',), [-1], [[1]], 1)


def test_a_long_id_in_the_data_of_the_run_is_refused(snapshot):
  """An id is written k times, so 100 KB would make files of gigabytes."""
  model = snapshot.model
  for length in (1024, 1025):
    users = ('x' * length, *model.dataset.user_ids[1:])
    changed = dataclasses.replace(model.dataset, user_ids=users)
    run = dataclasses.replace(
      snapshot, model=dataclasses.replace(model, dataset=changed)
    )
    if length == 1024:
      assert RunHistories(run).num_users == 3
    else:
      with pytest.raises(DataError, match='user is .* an id of 1,025 char'):
        RunHistories(run)


def test_the_digest_covers_users_and_histories(snapshot):
  digest = RunHistories(snapshot).digest
  dataset = snapshot.model.dataset
  for field in ('user_ids', 'history', 'offsets'):
    changed = RunHistories(snapshot)
    value = getattr(dataset, field)
    value = ('x',) if field == 'user_ids' else value + 1
    changed._dataset = type(dataset)(
      **{**vars(dataset), 'counts': {}, field: value}
    )
    assert changed.digest != digest
