"""Tests of array files, such as the file of the Semantic IDs."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from tiger_jax.errors import DataError
from tiger_jax.storage.arrays import read_arrays, save_arrays, saved_arrays

ARRAYS = {'codes': np.arange(12, dtype=np.int32).reshape(4, 3)}


def write(folder, data, metadata=None):
  """Writes a file of arrays with a correct digest."""
  metadata = {'sha256': hashlib.sha256(data).hexdigest()} | (metadata or {})
  (folder / 'a.npz').write_bytes(data)
  (folder / 'a.json').write_text(json.dumps(metadata))


def load(folder):
  with saved_arrays(folder, 'a', 'table'):
    pass


def make_npz(shape, **options):
  """Returns an .npz file with `shape` in its header and 64 bytes of data."""
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {'descr': '<i4', 'fortran_order': False, 'shape': shape}
  )
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', **options) as archive:
    archive.writestr('codes.npy', header.getvalue() + bytes(64))
  return file.getvalue()


def test_reads_what_was_saved(tmp_path):
  save_arrays(tmp_path, 'a', ARRAYS, {'name': 'x'})
  with saved_arrays(tmp_path, 'a', 'table') as (arrays, metadata):
    np.testing.assert_array_equal(arrays['codes'], ARRAYS['codes'])
    assert metadata['name'] == 'x'
  assert sorted(x.name for x in tmp_path.iterdir()) == ['a.json', 'a.npz']


@pytest.mark.parametrize(
  'data',
  [
    make_npz((10**13,)),
    make_npz((10**9, 10**9)),
    make_npz((4, 4), compression=zipfile.ZIP_DEFLATED),
    b'PK\x03\x04' + bytes(30),
    b'',
  ],
)
def test_refuses_a_false_header_without_allocating_memory(tmp_path, data):
  write(tmp_path, data)
  with pytest.raises(DataError, match='the table in .* is damaged'):
    load(tmp_path)


def test_reads_a_correct_header():
  assert read_arrays(make_npz((4, 4)))['codes'].shape == (4, 4)


@pytest.mark.parametrize('text', ['[' * 100_000, '[]', 'null', '{}', ''])
def test_refuses_an_invalid_json_file(tmp_path, text):
  save_arrays(tmp_path, 'a', ARRAYS, {})
  (tmp_path / 'a.json').write_text(text)
  with pytest.raises(DataError, match='the table in .* is damaged'):
    load(tmp_path)


def test_saving_follows_no_link(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  folder = tmp_path / 'folder'
  folder.mkdir()
  for name in ('a.npz', 'a.npz.partial', 'a.json', 'a.json.partial'):
    (folder / name).symlink_to(victim)
  save_arrays(folder, 'a', ARRAYS, {})
  assert victim.read_text() == 'precious'
  load(folder)


def test_a_missing_file_raises_a_one_line_error(tmp_path):
  with pytest.raises(DataError, match='is missing: run the semantic_ids stage'):
    load(tmp_path)
