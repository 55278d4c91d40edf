"""Files of a shop, and saved datasets, that are crafted to do harm."""

import io
import json
import os
import resource
import zipfile

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from tests import small, typed
from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.sources import own_files, tables
from tiger_jax.errors import DataError
from tiger_jax.storage.arrays import read_arrays

ITEMS = [{'item': x, 'title': f'Title {x}'} for x in 'abc']
LOG = {'user': ['u'] * 3, 'item': list('abc'), 'timestamp': [1, 2, 3]}


def load(folder):
  return own_files.load(DatasetConfig(name='files', source_dir=str(folder)))


def shop(folder, items=None, **columns):
  """Writes a shop as Parquet, with some columns replaced."""
  folder.mkdir(exist_ok=True)
  parquet.write_table(
    pa.table({**LOG, **columns}), folder / 'interactions.parquet'
  )
  catalogue = pa.table(items) if items else pa.Table.from_pylist(ITEMS)
  parquet.write_table(catalogue, folder / 'items.parquet')
  return folder


def refusal(folder):
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
def test_a_time_out_of_range_names_its_row(tmp_path, times):
  message = refusal(shop(tmp_path / 'shop', timestamp=times))
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
def test_times_of_other_types(tmp_path, times):
  assert 'timestamp' in refusal(shop(tmp_path / 'shop', timestamp=times))


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
def test_invalid_ids_are_refused(tmp_path, ids):
  assert 'user' in refusal(shop(tmp_path / 'shop', user=ids))
  message = refusal(shop(tmp_path / 'shop', {'item': ids, 'title': ids}))
  assert 'items.parquet' in message and 'item' in message


def test_text_stored_as_bytes_is_read(tmp_path):
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
def test_fields_of_types_that_are_not_text(tmp_path, name, values):
  items = {'item': list('abc'), 'title': list('xyz'), name: values}
  dataset = load(shop(tmp_path / 'shop', items))
  counted = dataset.counts['fields'][name]
  # Arrow returns a map as a list of pairs of texts.
  assert counted.get('unusable', 0) + counted.get('joined', 0) >= 2
  assert all(line.isprintable() for line in counts.lines(dataset.counts))


def test_control_characters_are_not_printed(tmp_path):
  title = 'A\x1b]52;c;eA==\x07\x1b[2J\u202eB\u2066\u2028C\x9b\tD'
  items = {'item': list('abc'), 'title': [title, 'y', 'z']}
  dataset = load(shop(tmp_path / 'shop', items))
  title = dataset.items.title(dataset.items.rows['a'])
  assert title == 'A]52;c;eA==[2JB C D'


def test_an_error_is_short_for_any_cell(tmp_path):
  for column in ('user', 'item', 'timestamp'):
    values = ['x' * 2_000_000 + '\x1b' + '1' * 9, 'a', 'b']
    message = refusal(shop(tmp_path / 'shop', **{column: pa.array(values)}))
    assert "'xxxxx" in message
  long = small.as_csv([{'user\n' + 'x' * 10**6: 1, 'b': 2}])
  (tmp_path / 'csv').mkdir()
  (tmp_path / 'csv' / 'interactions.csv').write_text(long)
  (tmp_path / 'csv' / 'items.csv').write_text(small.as_csv(ITEMS))
  refusal(tmp_path / 'csv')
  (tmp_path / 'csv' / 'interactions.csv').write_text(
    'user,item,timestamp\n' + 'u,' * 10**5
  )
  refusal(tmp_path / 'csv')


@pytest.mark.parametrize('value', ['1_000', '１２', '0x1f', '1e3', '٣', '+-3'])
def test_times_that_are_not_integers(tmp_path, value):
  times = pa.array(['1', value, '3'])
  assert 'row 2' in refusal(shop(tmp_path / 'shop', timestamp=times))


@pytest.mark.parametrize('name', ['interactions', 'items'])
@pytest.mark.parametrize('suffix', ['csv', 'jsonl', 'parquet'])
def test_a_pipe_or_device_in_place_of_a_file(tmp_path, name, suffix):
  folder = small.make(tmp_path / 'shop')
  (folder / f'{name}.csv').unlink()
  path = folder / f'{name}.{suffix}'
  os.mkfifo(path)
  assert f'{path} is not a regular file' in refusal(folder)
  path.unlink()
  path.symlink_to('/dev/zero')
  assert f'{path} is not a regular file' in refusal(folder)


def test_many_equal_rows_take_little_memory(tmp_path):
  """37 KB of Parquet; as Python objects they would take 400 MB."""
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
  # An event has 24 bytes. Sorting makes about three copies.
  assert int(done.out) < 300


def make_dataset():
  return Dataset(
    name='tiny',
    items=small_items(),
    user_ids=('u',),
    history=np.array([0, 1, 2], np.int32),
    offsets=np.array([0, 3], np.int64),
  )


def small_items():
  from tiger_jax.data.dataset import FIELDS, Items

  return Items(tuple('abc'), {name: ('x', 'y', 'z') for name in FIELDS})


@pytest.fixture
def saved(tmp_path):
  make_dataset().save(tmp_path / 'data')
  return tmp_path / 'data'


def damage(folder):
  with pytest.raises(DataError) as caught:
    Dataset.load(folder)
  message = str(caught.value)
  assert message.isprintable()
  assert len(message) < 400 + len(str(folder))
  assert str(folder) in message
  return message


@pytest.mark.parametrize(
  'change',
  [
    {'item_ids': None},
    {'item_ids': 'abc'},
    {'item_ids': ['a', 'b', 3]},
    {'item_ids': ['a', 'b', 'b']},
    {'user_ids': [['u']]},
    {'user_ids': ['u', 'u']},
    {'fields': None},
    {'fields': {}},
    {'fields': dict.fromkeys(small_items().fields)},
    {'fields': dict.fromkeys(small_items().fields, 'xyz')},
    {'fields': dict.fromkeys(small_items().fields, ['x', 'y', None])},
    {'name': 5},
  ],
)
def test_a_dataset_that_is_not_text(saved, change):
  path = saved / 'dataset.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  damage(saved)


def test_a_dataset_nested_without_end(saved):
  (saved / 'dataset.json').write_text('[' * 100_000)
  assert 'nested too deeply' in damage(saved)


@pytest.mark.parametrize('name', ['dataset.json', 'histories.npz'])
def test_a_dataset_of_devices(saved, name):
  (saved / name).unlink()
  (saved / name).symlink_to('/dev/zero')
  assert 'is not a regular file' in damage(saved)
  (saved / name).unlink()
  os.mkfifo(saved / name)
  assert 'is not a regular file' in damage(saved)


def npy(header, body=b'', version=1):
  content = io.BytesIO()
  if isinstance(header, dict):
    np.lib.format.write_array_header_1_0(content, header)
  else:
    content.write(b'\x93NUMPY' + bytes([version, 0]))
    size = len(header).to_bytes(2 if version == 1 else 4, 'little')
    content.write(size + header)
  return content.getvalue() + body


def _header(shape, descr='<i4'):
  return {'descr': descr, 'fortran_order': False, 'shape': shape}


@pytest.mark.parametrize(
  'content',
  [
    npy(_header((10**13,)), b'1234'),
    npy(_header((2**62, 2**62)), b'1234'),
    npy(_header((-1,)), b'1234'),
    npy(_header((2**64,)), b'1234'),
    npy(_header((1,), '|O'), b'\x80\x04K\x01.'),
    npy(_header((2, 3)), bytes(24)),
    npy(b'(' * 9000),
    npy(b'{' + b"'a': 1," * 200_000 + b'}', version=2),
    npy(b"{'descr': '<i4', 'shape': (__import__('os'),)}"),
    npy(b'', version=3),
    npy(b'', version=9),
    b'\x93NUMPY',
    b'',
    b'nonsense',
  ],
)
def test_headers_that_promise_more_data_than_the_file_has(saved, content):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with zipfile.ZipFile(saved / 'histories.npz', 'w') as archive:
    archive.writestr('history.npy', content)
    archive.writestr('offsets.npy', npy(_header((2,), '<i8'), bytes(16)))
  damage(saved)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 200 * 1024


def test_a_compressed_archive_is_refused(saved):
  np.savez_compressed(
    saved / 'histories.npz', history=np.zeros(10**6, np.int32)
  )
  assert 'larger than the file' in damage(saved)
  np.savez_compressed(saved / 'histories.npz', history=np.zeros(0, np.int32))
  damage(saved)


def test_arrays_that_numpy_writes_are_read(tmp_path):
  arrays = {
    'a': np.arange(5, dtype=np.int32),
    'b': np.zeros((0, 3)),
    'c': np.asfortranarray(np.arange(6).reshape(2, 3)),
    'd': np.asarray(3.5),
  }
  np.savez(tmp_path / 'x.npz', **arrays)
  found = read_arrays(tmp_path / 'x.npz')
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)


def test_a_dataset_with_short_users_is_refused(saved):
  """Otherwise their last items would be those of the previous user."""
  content = {
    'history': np.array([0, 1, 2, 1], np.int32),
    'offsets': np.array([0, 3, 4], np.int64),
  }
  np.savez(saved / 'histories.npz', **content)
  path = saved / 'dataset.json'
  text = json.loads(path.read_text()) | {'user_ids': ['u', 'v']}
  path.write_text(json.dumps(text))
  assert 'the offsets do not match' in damage(saved)


def test_saving_does_not_follow_links(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('mine')
  folder = tmp_path / 'data'
  folder.mkdir()
  for name in ('dataset.json', 'histories.npz', 'counts.json'):
    (folder / name).symlink_to(victim)
    (folder / f'{name}.partial').symlink_to(victim)
  make_dataset().save(folder)
  assert victim.read_text() == 'mine'
  assert Dataset.load(folder).user_ids == ('u',)


def test_dictionaries_with_unused_values(tmp_path):
  """Writers leave unused, repeated and missing values in dictionaries."""
  rows = pa.array([3, 1, 2, None, 3], pa.int32())
  column = pa.DictionaryArray.from_arrays(rows, pa.array(['z', 'b', None, 'a']))
  table = tables.Table(tmp_path, {'x': pa.chunked_array([column, column])}, 10)
  codes = tables.encode(table, 'x')
  assert codes.values == ['a', 'b']
  assert codes.rows.tolist() == [0, 1, -1, -1, 0] * 2
