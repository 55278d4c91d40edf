import numpy as np
from pyarrow import parquet as pq
import pytest

from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import DataError
from tiger_jax.storage import texts


def make_dataset(timestamps=True):
  fields = {name: ('', 'text', 'ünï "code" \U0001f9f4') for name in FIELDS}
  fields['color'] = ('red', '', '')
  times = np.array([5, 6, 7, 1, 2, 3, 4], np.int64)
  return Dataset(
    name='tiny',
    items=Items(ids=('a', 'b', 'c'), fields=fields),
    user_ids=('u', 'v'),
    history=np.array([0, 1, 2, 2, 1, 0, 2], np.int32),
    offsets=np.array([0, 3, 7], np.int64),
    timestamps=times if timestamps else None,
  )


def test_a_dataset_counts_and_looks_up_users_and_items():
  dataset = make_dataset()
  assert dataset.num_users == 2
  assert dataset.num_items == 3
  assert dataset.num_interactions == 7
  assert dataset.history_of(1).tolist() == [2, 1, 0, 2]
  assert dataset.items.rows == {'a': 0, 'b': 1, 'c': 2}
  assert dataset.items.title(0) == 'a'
  assert dataset.items.title(1) == 'text'


@pytest.mark.parametrize('timestamps', [True, False])
def test_load_returns_what_was_saved(tmp_path, timestamps):
  saved = make_dataset(timestamps)
  saved.save(tmp_path / 'new' / 'folder')
  loaded = Dataset.load(tmp_path / 'new' / 'folder')
  assert loaded.name == saved.name
  assert loaded.items.ids == saved.items.ids
  assert loaded.items.fields == saved.items.fields
  assert loaded.user_ids == saved.user_ids
  for name in ('history', 'offsets', 'timestamps'):
    np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
  assert loaded.history.dtype == np.int32
  assert loaded.offsets.dtype == np.int64


def _damage(folder, kind):
  arrays = folder / 'histories.npz'
  if kind == 'missing':
    arrays.unlink()
  elif kind == 'truncated':
    arrays.write_bytes(arrays.read_bytes()[:-40])
  elif kind == 'empty':
    arrays.write_bytes(b'')
  elif kind == 'json':
    (folder / 'dataset.json').write_text('{"name": ')
  elif kind == 'no items':
    (folder / 'items.parquet').unlink()
  elif kind == 'short items':
    path = folder / 'items.parquet'
    path.write_bytes(path.read_bytes()[:-9])
  elif kind == 'text':
    (folder / 'users.parquet').write_text('u\nv\n')
  elif kind == 'not an object':
    (folder / 'dataset.json').write_text('[1]')
  elif kind == 'pickle':
    np.savez(arrays, history=np.array([{}]), offsets=np.array([{}]))
  elif kind == 'row':
    np.savez(
      arrays,
      history=np.array([0, 1, 2, 2, 1, 0, 3], np.int32),
      offsets=np.array([0, 3, 7], np.int64),
    )
  elif kind == 'offsets':
    np.savez(
      arrays,
      history=np.array([0, 1, 2], np.int32),
      offsets=np.array([0, 3, 7], np.int64),
    )


@pytest.mark.parametrize(
  'kind',
  [
    'missing', 'truncated', 'empty', 'json', 'no items', 'short items', 'text',
    'not an object', 'pickle', 'row', 'offsets',
  ],
)  # fmt: skip
def test_a_damaged_dataset_raises_a_one_line_error(tmp_path, kind):
  make_dataset().save(tmp_path)
  _damage(tmp_path, kind)
  with pytest.raises(DataError) as error:
    Dataset.load(tmp_path)
  message = str(error.value)
  assert str(tmp_path) in message
  assert '\n' not in message
  assert error.value.exit_code == 3


def test_columns_of_many_rows_are_read_in_order(tmp_path):
  """The file has several row groups."""
  columns = {
    'a': [f'{x}' for x in range(40_000)],
    'b': ['' if x % 3 else f'ü{x % 7}' for x in range(40_000)],
  }
  texts.write(tmp_path / 'x.parquet', columns)
  assert pq.ParquetFile(tmp_path / 'x.parquet').num_row_groups == 3
  read = texts.read(tmp_path / 'x.parquet')
  assert {name: list(column) for name, column in read.items()} == columns


def test_columns_may_be_empty(tmp_path):
  texts.write(tmp_path / 'x.parquet', {'a': [], 'b': ()})
  assert texts.read(tmp_path / 'x.parquet') == {'a': (), 'b': ()}
