"""Tests of crafted files of a shop."""

import os

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small, typed
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, loading
from tiger_jax.data.events import ids
from tiger_jax.data.files import bad_rows, column_names, tables
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError

ITEMS = [{'item': x, 'title': f'Title {x}'} for x in 'abc']
LOG = {'user': ['u'] * 3, 'item': list('abc'), 'timestamp': [1, 2, 3]}


def load(folder):
  return own_files.load(DatasetConfig(name='files', source_dir=str(folder)))


def shop(folder, items=None, **columns):
  """Writes a shop as Parquet. `columns` replaces columns of the log."""
  folder.mkdir(exist_ok=True)
  parquet.write_table(
    pa.table({**LOG, **columns}), folder / 'interactions.parquet'
  )
  catalog = pa.table(items) if items else pa.Table.from_pylist(ITEMS)
  parquet.write_table(catalog, folder / 'items.parquet')
  return folder


def load_error(folder):
  """Returns the message of the error that loading a shop raises."""
  with pytest.raises(DataError) as caught:
    load(folder)
  message = str(caught.value)
  assert message.isprintable()
  assert len(message) < 400 + len(str(folder))
  return message


@pytest.mark.parametrize(
  'times',
  [
    pa.array([1, 2**62, 3], pa.timestamp('ms')),
    pa.array([1, 2**50, 3], pa.timestamp('s')),
    pa.array([1, -(2**62), 3], pa.timestamp('us')),
    pa.array([1, 2**62, 3], pa.timestamp('us', tz='Mars/Phobos')),
    pa.array([1, 2**30, 3], pa.date32()),
    pa.array([1, 253_402_300_800_000, 3], pa.timestamp('ms')),
    pa.array([1, None, 3], pa.timestamp('ms')),
    pa.array([1, 2**63 + 5, 3], pa.uint64()),
    pa.array([1.0, float('inf'), 3.0]),
    pa.array([1.0, float('nan'), 3.0]),
    pa.array([1.0, 1e300, 3.0]),
  ],
)
def test_the_error_for_a_time_out_of_range_names_the_row(tmp_path, times):
  message = load_error(shop(tmp_path / 'shop', timestamp=times))
  assert 'interactions.parquet, row 2: timestamp is' in message


@pytest.mark.parametrize(
  'times',
  [
    pa.array([2**62] * 3, pa.duration('s')),
    pa.array([1] * 3, pa.time64('us')),
    pa.array([{'x': 1}] * 3),
    pa.array([[1]] * 3),
    pa.array([True] * 3),
    pa.array([b'\xff'] * 3),
  ],
)
def test_refuses_timestamps_of_unsupported_types(tmp_path, times):
  assert 'timestamp' in load_error(shop(tmp_path / 'shop', timestamp=times))


@pytest.mark.parametrize(
  'ids',
  [
    pa.array([2**62] * 3, pa.timestamp('ms')),
    pa.array([2**30] * 3, pa.date32()),
    pa.array([{'x': 1}] * 3),
    pa.array([['a']] * 3),
    pa.array([1.0, float('nan'), 2.0]),
    pa.array([True, False, True]),
    pa.array([b'\xff', b'a', b'b']),
    pa.array(['a', None, 'b']),
    pa.nulls(3),
    pa.array(['a\x1b[2J', 'b', 'c']),
    pa.array(['a', '\u202eb', 'c']),
    pa.array(['a', 'b\nc', 'c']),
    pa.array(['a', '\x00', 'c']),
  ],
)
def test_refuses_invalid_ids(tmp_path, ids):
  assert 'user' in load_error(shop(tmp_path / 'shop', user=ids))
  message = load_error(shop(tmp_path / 'shop', {'item': ids, 'title': ids}))
  assert 'items.parquet' in message and 'item' in message


def test_reads_text_stored_as_bytes(tmp_path):
  ids = pa.array([b'a', b'b', b'c'])
  items = {'item': ids, 'title': pa.array([b'x', 'é'.encode(), b'z'])}
  dataset = load(shop(tmp_path / 'shop', items, item=ids))
  rows = [dataset.items.rows[x] for x in 'abc']
  assert [dataset.items.title(row) for row in rows] == ['x', 'é', 'z']


@pytest.mark.parametrize(
  'values',
  [
    pa.array([2**62, 1, 2], pa.timestamp('ms')),
    pa.array([2**30, 1, 2], pa.date32()),
    pa.array([2**62, 1, 2], pa.duration('s')),
    pa.array([[2**62], [1], [2]], pa.list_(pa.timestamp('ms'))),
    pa.array([{'a': 1}] * 3),
    pa.array([[('k', 'v')]] * 3, pa.map_(pa.string(), pa.string())),
  ],
)
@pytest.mark.parametrize('name', ['price', 'brand', 'categories'])
def test_counts_fields_that_are_not_text(tmp_path, name, values):
  items = {'item': list('abc'), 'title': list('xyz'), name: values}
  dataset = load(shop(tmp_path / 'shop', items))
  field_counts = dataset.counts['fields'][name]
  # Arrow returns a map as a list of pairs of texts.
  assert field_counts.get('unusable', 0) + field_counts.get('joined', 0) >= 2
  assert all(line.isprintable() for line in counts.lines(dataset.counts))


def test_titles_have_no_control_characters(tmp_path):
  title = 'A\x1b]52;c;eA==\x07\x1b[2J\u202eB\u2066\u2028C\x9b\tD'
  items = {'item': list('abc'), 'title': [title, 'y', 'z']}
  dataset = load(shop(tmp_path / 'shop', items))
  title = dataset.items.title(dataset.items.rows['a'])
  assert title == 'A]52;c;eA==[2JB C D'


def test_errors_shorten_long_cells(tmp_path):
  for column in ('user', 'item', 'timestamp'):
    values = ['x' * 2_000_000 + '\x1b' + '1' * 9, 'a', 'b']
    message = load_error(shop(tmp_path / 'shop', **{column: pa.array(values)}))
    assert "'xxxxx" in message
  long = small.as_csv([{'user\n' + 'x' * 10**6: 1, 'b': 2}])
  (tmp_path / 'csv').mkdir()
  (tmp_path / 'csv' / 'interactions.csv').write_text(long)
  (tmp_path / 'csv' / 'items.csv').write_text(small.as_csv(ITEMS))
  load_error(tmp_path / 'csv')
  (tmp_path / 'csv' / 'interactions.csv').write_text(
    'user,item,timestamp\n' + 'u,' * 10**5
  )
  load_error(tmp_path / 'csv')


@pytest.mark.parametrize('value', ['1_000', '１２', '0x1f', '1.5', '٣', '+-3'])
def test_refuses_text_that_is_not_a_time(tmp_path, value):
  times = pa.array(['1', value, '3'])
  assert 'row 2' in load_error(shop(tmp_path / 'shop', timestamp=times))


@pytest.mark.parametrize(
  ('name', 'file'),
  [
    ('amazon2014/Beauty', 'reviews_Beauty_5.json.gz'),
    ('movielens/1m', 'ml-1m.zip'),
    ('yelp', 'yelp_dataset.tar'),
  ],
)
def test_refuses_a_pipe_in_place_of_an_official_file(tmp_path, name, file):
  os.mkfifo(tmp_path / file)
  config = DatasetConfig(name=name, source_dir=str(tmp_path))
  with pytest.raises(DataError, match='is not a regular file'):
    loading.load_dataset(config, 0)


@pytest.mark.parametrize('name', ['interactions', 'items'])
@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_refuses_a_pipe_or_device_in_place_of_a_file(tmp_path, name, suffix):
  folder = small.make(tmp_path / 'shop')
  (folder / f'{name}.csv').unlink()
  path = folder / f'{name}.{suffix}'
  os.mkfifo(path)
  assert f'{path} is not a regular file' in load_error(folder)
  path.unlink()
  path.symlink_to('/dev/zero')
  assert f'{path} is not a regular file' in load_error(folder)


def test_many_equal_rows_take_little_memory(tmp_path):
  """The files have 37 KB. As Python objects, the rows would take 400 MB."""
  num = 3_000_000
  zeros = pa.array(np.zeros(num, np.int32))
  path = tmp_path / 'interactions.parquet'
  columns = {
    name: pa.DictionaryArray.from_arrays(zeros, pa.array(['x' * 30]))
    for name in ('user', 'item')
  }
  table = pa.table({**columns, 'timestamp': np.zeros(num, np.int64)})
  parquet.write_table(table, path)
  parquet.write_table(pa.Table.from_pylist(ITEMS), tmp_path / 'items.parquet')
  del table
  program = f"""
import pathlib, resource
from tiger_jax.config import DatasetConfig
from tiger_jax.data.sources import own_files
from tiger_jax.errors import DataError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try: own_files.load(DatasetConfig('files', {str(tmp_path)!r}))
except DataError: print(peak() - before)
"""
  done = typed.python('-c', program, cwd=tmp_path)
  assert done.code == 0, done.err
  # An event takes 24 bytes. Sorting makes about three copies of the events.
  assert int(done.out) < 300


def test_reads_dictionaries_with_unused_values(tmp_path):
  """A dictionary in Parquet may have unused and repeated values."""
  rows = pa.array([3, 1, 2, None, 3], pa.int32())
  column = pa.DictionaryArray.from_arrays(rows, pa.array(['z', 'b', 'b', 'a']))
  path = tmp_path / 'interactions.parquet'
  parquet.write_table(pa.table({'user': column}), path)
  wanted = column_names.Columns(['user'])
  (block,) = tables.Table([path], wanted, bad_rows.BadRows()).blocks()
  known = ids.Ids()
  assert known.encode(block.columns['user']).tolist() == [0, 1, 1, -1, 0]
  assert known.texts() == ['a', 'b']
