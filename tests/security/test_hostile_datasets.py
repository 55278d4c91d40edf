"""Tests of crafted files of a saved dataset."""

import io
import json
import os
import resource
import zipfile

import numpy as np
import pytest

from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import DataError
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
def test_refuses_a_dataset_with_wrong_types(saved, change):
  path = saved / 'dataset.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  dataset_error(saved)


def test_refuses_json_that_is_nested_too_deeply(saved):
  (saved / 'dataset.json').write_text('[' * 100_000)
  assert 'nested too deeply' in dataset_error(saved)


@pytest.mark.parametrize('name', ['dataset.json', 'histories.npz'])
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
  path = saved / 'dataset.json'
  text = json.loads(path.read_text()) | {'user_ids': ['u', 'v']}
  path.write_text(json.dumps(text))
  assert 'the offsets do not match' in dataset_error(saved)


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
