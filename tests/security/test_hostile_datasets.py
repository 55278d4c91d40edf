"""Tests of crafted files of a saved dataset."""

import io
import json
import os
import resource
import zipfile

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import DataError
from tiger_jax.storage import texts
from tiger_jax.storage.arrays import read_arrays


def make_dataset():
  return Dataset(
    name='tiny',
    items=small_items(),
    user_ids=('u',),
    history=np.array([0, 1, 2], np.int32),
    offsets=np.array([0, 3], np.int64),
  )


def small_items():
  return Items(tuple('abc'), {name: ('x', 'y', 'z') for name in FIELDS})


@pytest.fixture
def saved(tmp_path):
  make_dataset().save(tmp_path / 'data')
  return tmp_path / 'data'


def dataset_error(folder):
  """Returns the message of the error that loading a dataset raises."""
  with pytest.raises(DataError) as caught:
    Dataset.load(folder)
  message = str(caught.value)
  assert message.isprintable()
  assert len(message) < 400 + len(str(folder))
  assert str(folder) in message
  return message


def _items(**columns):
  return {'item': list('abc'), **small_items().fields, **columns}


@pytest.mark.parametrize(
  'columns',
  [
    _items(item=['a', 'b', 'b']),
    _items(item=['a', 'b', None]),
    _items(item=[1, 2, 3]),
    _items(item=[b'a', b'b', b'c']),
    _items(title=['x', 'y', None]),
    _items(title=[['x'], ['y'], ['z']]),
    _items(title=[{'x': 1}] * 3),
    _items(title=[True] * 3),
    _items(title=pa.array(list('xyz')).dictionary_encode()),
    _items(title=pa.nulls(3)),
    {'item': list('abc')},
    small_items().fields,
    _items(item=list('ab'), **dict.fromkeys(FIELDS, list('xy'))),
    {},
  ],
)
def test_refuses_items_of_another_form(saved, columns):
  parquet.write_table(
    pa.table(columns), saved / 'items.parquet', compression='NONE'
  )
  dataset_error(saved)


@pytest.mark.parametrize('users', [['u', 'v'], [], [None], [1]])
def test_refuses_users_of_another_form(saved, users):
  parquet.write_table(
    pa.table({'user': users}), saved / 'users.parquet', compression='NONE'
  )
  dataset_error(saved)


@pytest.mark.parametrize('content', ['{}', '{"name": 5}', '[1]', '[' * 10**5])
def test_refuses_another_name(saved, content):
  (saved / 'dataset.json').write_text(content)
  dataset_error(saved)


def test_refuses_compressed_texts(saved):
  """A compressed file can need a thousand times its size when it is read."""
  parquet.write_table(
    pa.table(_items(title=['x' * 10**7] * 3)),
    saved / 'items.parquet',
    compression='zstd',
  )
  assert 'items.parquet is compressed' in dataset_error(saved)


def test_a_repeated_text_is_stored_once(tmp_path):
  """A short file can refer to one long text in many rows."""
  rows = 50_000
  long_text = 'x' * 10**6
  kind = pa.dictionary(pa.int32(), pa.string())
  title = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [long_text])
  schema = pa.schema([('item', pa.string()), ('title', pa.string())])
  path = tmp_path / 'items.parquet'
  with parquet.ParquetWriter(
    path, pa.schema([('item', pa.string()), ('title', kind)]),
    compression='NONE', store_schema=False,
  ) as writer:  # fmt: skip
    writer.write_table(
      pa.table({'item': [f'{x}' for x in range(rows)], 'title': title})
    )
  assert parquet.read_schema(path) == schema
  assert path.stat().st_size < 3 * 10**6
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  read = texts.read(path)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert read['title'] == (long_text,) * rows
  assert after - before < 200 * 1024


@pytest.mark.parametrize('seed', range(20))
def test_a_changed_file_is_read_or_refused(saved, seed):
  """Changed bytes never crash the process or raise another error."""
  rng = np.random.default_rng(seed)
  path = saved / 'items.parquet'
  content = path.read_bytes()
  for _ in range(20):
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(changed), rng.integers(1, 5))
    changed[places] = rng.integers(0, 256, len(places))
    path.write_bytes(changed[: rng.choice([len(changed), places[0]])])
    try:
      Dataset.load(saved)
    except DataError as error:
      assert str(error).isprintable()


def _write_as_before(dataset, folder):
  """Writes a dataset as the versions did that had no Parquet files."""
  folder.mkdir()
  values = {
    'name': dataset.name,
    'item_ids': dataset.items.ids,
    'fields': dataset.items.fields,
    'user_ids': dataset.user_ids,
  }
  (folder / 'dataset.json').write_text(json.dumps(values))
  np.savez(
    folder / 'histories.npz', history=dataset.history, offsets=dataset.offsets
  )


def test_reads_a_dataset_of_an_earlier_version(tmp_path):
  dataset = make_dataset()
  _write_as_before(dataset, tmp_path / 'old')
  loaded = Dataset.load(tmp_path / 'old')
  assert loaded.items.ids == dataset.items.ids
  assert loaded.items.fields == dataset.items.fields
  assert loaded.user_ids == dataset.user_ids
  np.testing.assert_array_equal(loaded.history, dataset.history)


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
def test_refuses_an_earlier_dataset_with_wrong_types(tmp_path, change):
  _write_as_before(make_dataset(), tmp_path / 'old')
  path = tmp_path / 'old' / 'dataset.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  dataset_error(tmp_path / 'old')


@pytest.mark.parametrize(
  'name', ['dataset.json', 'items.parquet', 'users.parquet', 'histories.npz']
)
def test_refuses_devices_and_pipes(saved, name):
  (saved / name).unlink()
  (saved / name).symlink_to('/dev/zero')
  assert 'is not a regular file' in dataset_error(saved)
  (saved / name).unlink()
  os.mkfifo(saved / name)
  assert 'is not a regular file' in dataset_error(saved)


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
def test_refuses_invalid_or_oversized_array_headers(saved, content):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with zipfile.ZipFile(saved / 'histories.npz', 'w') as archive:
    archive.writestr('history.npy', content)
    archive.writestr('offsets.npy', npy(_header((2,), '<i8'), bytes(16)))
  dataset_error(saved)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 200 * 1024


def test_refuses_a_compressed_archive(saved):
  np.savez_compressed(
    saved / 'histories.npz', history=np.zeros(10**6, np.int32)
  )
  assert 'larger than the file' in dataset_error(saved)
  np.savez_compressed(saved / 'histories.npz', history=np.zeros(0, np.int32))
  dataset_error(saved)


def test_reads_arrays_that_numpy_writes(tmp_path):
  arrays = {
    'a': np.arange(5, dtype=np.int32),
    'b': np.zeros((0, 3)),
    'c': np.asfortranarray(np.arange(6).reshape(2, 3)),
    'd': np.asarray(3.5),
  }
  np.savez(tmp_path / 'x.npz', **arrays)
  read = read_arrays(tmp_path / 'x.npz')
  assert read.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(read[name], array)


def test_refuses_a_user_with_too_few_events(saved):
  """With fewer than three events, a split would read items of another user."""
  content = {
    'history': np.array([0, 1, 2, 1], np.int32),
    'offsets': np.array([0, 3, 4], np.int64),
  }
  np.savez(saved / 'histories.npz', **content)
  texts.write(saved / 'users.parquet', {'user': ['u', 'v']})
  assert 'the offsets do not match' in dataset_error(saved)


def test_saving_does_not_follow_links(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('mine')
  folder = tmp_path / 'data'
  folder.mkdir()
  names = 'dataset.json', 'items.parquet', 'users.parquet', 'histories.npz'
  for name in (*names, 'counts.json'):
    (folder / name).symlink_to(victim)
    (folder / f'{name}.partial').symlink_to(victim)
  make_dataset().save(folder)
  assert victim.read_text() == 'mine'
  assert Dataset.load(folder).user_ids == ('u',)
