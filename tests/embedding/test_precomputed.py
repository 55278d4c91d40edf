import json
import os
import pathlib
from typing import Any

import numpy as np
import pytest

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding import precomputed
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import DataError, NumbersError

VECTORS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
IDS = ['B02', 'B01', 'B03']


@pytest.fixture
def items(make_items):
  return make_items(B01={}, B02={})


@pytest.fixture
def write(tmp_path: pathlib.Path):
  """Returns a function that writes vectors and ids, and returns a config."""

  def write(vectors: np.ndarray = VECTORS, ids: Any = IDS) -> EmbeddingConfig:
    config = EmbeddingConfig(
      encoder='precomputed',
      path=str(tmp_path / 'vectors.npy'),
      ids_path=str(tmp_path / 'ids.json'),
    )
    np.save(config.path, vectors)
    pathlib.Path(config.ids_path).write_text(json.dumps(ids))
    return config

  return write


def refusal(kind: type[Exception], config, items) -> str:
  with pytest.raises(kind) as caught:
    embed_items(config, items)
  message = str(caught.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_rows_are_in_the_order_of_the_catalog(write, items, dtype):
  vectors = embed_items(write(VECTORS.astype(dtype)), items)

  assert vectors.dtype == np.float32
  np.testing.assert_array_equal(vectors, [[3, 4], [1, 2]])


def test_vectors_do_not_depend_on_the_file_after_loading(write, items):
  config = write()
  vectors = embed_items(config, items)
  pathlib.Path(config.path).unlink()

  assert type(vectors) is np.ndarray
  vectors += 1
  np.testing.assert_array_equal(vectors, [[4, 5], [2, 3]])


@pytest.mark.parametrize('field', ['path', 'ids_path'])
@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (None, 'does not exist'),
    (b'', 'cannot be read'),
    (b'<html>Not found</html>', 'cannot be read'),
    (b'\x80\x04K\x01.', 'cannot be read'),  # A pickle, which is not loaded.
  ],
)
def test_a_missing_or_unreadable_file_is_refused(
  write, items, field, content, reason
):
  config = write()
  path = pathlib.Path(getattr(config, field))
  path.unlink() if content is None else path.write_bytes(content)

  message = refusal(DataError, config, items)
  assert message.startswith(f'{path} {reason}')


def test_a_folder_is_refused(write, items):
  config = write()
  pathlib.Path(config.path).unlink()
  pathlib.Path(config.path).mkdir()

  assert 'cannot be read' in refusal(DataError, config, items)


def test_a_truncated_file_is_refused(write, items):
  config = write()
  path = pathlib.Path(config.path)
  path.write_bytes(path.read_bytes()[:-4])

  assert 'cannot be read' in refusal(DataError, config, items)


def test_an_npz_archive_is_refused(write, items):
  config = write()
  with open(config.path, 'wb') as file:
    np.savez(file, VECTORS)

  assert 'cannot be read' in refusal(DataError, config, items)


@pytest.mark.parametrize(
  ('vectors', 'reason'),
  [
    (np.ones(3, np.float32), 'float32 of shape [3]'),
    (np.ones((3, 2, 1), np.float16), 'float16 of shape [3, 2, 1]'),
    (np.ones((3, 2), np.int64), 'int64 of shape [3, 2]'),
    (np.ones((3, 2), object), 'cannot be read'),
    (np.ones((3, 0), np.float32), 'float32 of shape [3, 0]'),
  ],
)
def test_an_array_of_a_wrong_shape_or_dtype_is_refused(
  write, items, vectors, reason
):
  assert reason in refusal(DataError, write(vectors), items)


@pytest.mark.parametrize(
  'ids', [{'B01': 0}, 'B01', ['B01', 2.0, 'B03'], ['B01', True, 'B03'],
          ['B01', None, 'B03'], ['B01', ['B02'], 'B03']]
)  # fmt: skip
def test_ids_must_be_a_list_of_text_or_integers(write, items, ids):
  message = refusal(DataError, write(ids=ids), items)
  assert 'is not a list' in message
  assert 'entry 2 is' in message or not isinstance(ids, list)


def test_integer_ids_match_text_ids(write, make_items):
  items = make_items(**{'7': {}, '12': {}})

  vectors = embed_items(write(ids=[12, ' 7', 'x']), items)
  np.testing.assert_array_equal(vectors, [[3, 4], [1, 2]])


def test_used_vectors_are_counted(write, items):
  assert precomputed.count_rows(write(), items) == {
    'vectors': 3,
    'used': 2,
    'of_other_items': 1,
  }


def test_ids_without_leading_zeros_get_a_hint(write, make_items):
  items = make_items(**{'007': {}, 'B01': {}})

  message = refusal(DataError, write(ids=['7', 'B01', 'B03']), items)
  assert "lacks 1 of 2 items, such as '007'" in message
  assert '1 of 1 match when leading zeros are ignored' in message


@pytest.mark.parametrize('shape', [(10**13, 2), (2**62, 2**62), (-3, 2)])
def test_an_array_larger_than_its_file_is_refused(write, items, shape):
  config = write()
  with open(config.path, 'wb') as file:
    header = {'descr': '<f4', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.write(b'1234')

  assert 'cannot be read' in refusal(DataError, config, items)


@pytest.mark.parametrize('header', [b'(' * 9000, b'{' * 9000, b' ' * 20_000])
def test_an_invalid_header_is_refused(write, items, header):
  config = write()
  size = len(header).to_bytes(4, 'little')
  path = pathlib.Path(config.path)
  path.write_bytes(b'\x93NUMPY\x02\x00' + size + header)

  assert 'cannot be read' in refusal(DataError, config, items)


@pytest.mark.parametrize('field', ['path', 'ids_path'])
def test_a_pipe_is_refused(write, items, field):
  path = pathlib.Path(getattr(config := write(), field))
  path.unlink()
  os.mkfifo(path)

  assert 'cannot be read' in refusal(DataError, config, items)


def test_deeply_nested_ids_are_refused(write, items):
  config = write()
  pathlib.Path(config.ids_path).write_text('[' * 100_000)

  assert 'cannot be read as JSON' in refusal(DataError, config, items)


def test_fewer_ids_than_rows_are_refused(write, items):
  message = refusal(DataError, write(ids=['B01', 'B02']), items)
  assert 'has 3 rows' in message and 'has 2 ids' in message


def test_a_repeated_id_is_refused(write, items):
  message = refusal(DataError, write(ids=['B01', 'B02', 'B02']), items)
  assert 'repeats 1 ids' in message


def test_items_without_a_vector_are_named(write, make_items):
  items = make_items(B01={}, B08={}, B09={})

  message = refusal(DataError, write(), items)
  assert "lacks 2 of 3 items, such as 'B08', 'B09'" in message


@pytest.mark.parametrize('number', [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused(write, items, number):
  vectors = VECTORS.copy()
  vectors[0, 1] = number

  message = refusal(NumbersError, write(vectors), items)
  assert 'for 1 of 2 items' in message and "such as 'B02'" in message


def test_invalid_vectors_of_items_outside_the_catalog_are_ignored(write, items):
  vectors = VECTORS.copy()
  vectors[2] = np.nan

  assert embed_items(write(vectors), items).shape == (2, 2)


def test_a_number_too_large_for_float32_is_refused(write, items):
  config = write(VECTORS.astype(np.float64) * 1e39)

  refusal(NumbersError, config, items)


def test_the_published_vectors_of_beauty_are_loaded(data_root, make_items):
  folder = data_root / 'embeddings'
  ids_path = folder / 'amazon2014_beauty.asins.json'
  ids = json.loads(ids_path.read_text())
  path = folder / 'amazon2014_beauty.all-MiniLM-L6-v2.float16.npy'
  config = EmbeddingConfig(
    encoder='precomputed', path=str(path), ids_path=str(ids_path)
  )

  vectors = embed_items(config, make_items(**{x: {} for x in ids[::-1]}))
  assert vectors.shape == (12101, 384)
  np.testing.assert_array_equal(vectors[::-1], np.load(path))
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
