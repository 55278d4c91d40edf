"""Tests of crafted files of Semantic IDs, tokenizers and catalogs."""

import hashlib
import io
import json
import os
import resource
import zipfile

import jax
import numpy as np
import pytest

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import DataError
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizers import rq_kmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer
from tiger_jax.stages import embedding

CODES = np.array([[0, 1], [1, 0], [2, 2]], np.int32)
IDS = {'level_sizes': [3, 3], 'num_meaning_levels': 2, 'provenance': {}}
CATALOG = {'level_sizes': [3, 3], 'capacity': 9, 'num_rows': 3}


def archive(compression=zipfile.ZIP_STORED, **members):
  """Returns an `.npz` file. A member given as bytes is stored unchanged."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as opened:
    for name, value in members.items():
      data = value if isinstance(value, bytes) else npy(value)
      opened.writestr(f'{name}.npy', data)
  return file.getvalue()


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def with_rows(count):
  """Returns an `.npy` file with more rows in the header than in the data."""
  file = io.BytesIO()
  header = {'descr': '<i4', 'fortran_order': False, 'shape': (count, 2)}
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + b'\0' * 64


def write(folder, name, data, metadata):
  folder.mkdir(exist_ok=True)
  (folder / f'{name}.npz').write_bytes(data)
  if isinstance(metadata, dict):
    metadata = metadata | {'sha256': hashlib.sha256(data).hexdigest()}
    metadata = json.dumps(metadata)
  (folder / f'{name}.json').write_text(metadata)


def assert_damaged(load, folder):
  """Asserts that loading raises a DataError and allocates little memory."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(DataError) as error:
    load(folder)
  assert '\n' not in str(error.value) and len(str(error.value)) < 600
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 300 * 1024, 'loading used more than 300 MiB'


@pytest.mark.parametrize(
  'data',
  [
    archive(codes=with_rows(10**13)),
    archive(codes=with_rows(10**9)),
    archive(zipfile.ZIP_DEFLATED, codes=np.zeros((10**8, 2), np.int8)),
    archive(codes=b'\x93NUMPY'),
    archive(codes=CODES.astype(object)),
    archive(codes=CODES.astype(np.float32)),
    archive(codes=CODES + 1),
    archive(codes=CODES - 1),
    archive(codes=CODES[0]),
    archive(codes=CODES[None]),
    archive(codes=np.int32(1)),
    archive(codes=CODES[:, :1]),
    archive(codes=CODES[:0]),
    archive(codes=CODES.astype('U9')),
    archive(other=CODES),
    b'',
    b'PK',
  ],
)
def test_refuses_invalid_arrays_of_codes(tmp_path, data):
  write(tmp_path, 'semantic_ids', data, IDS)
  assert_damaged(SemanticIds.load, tmp_path)
  write(tmp_path, 'catalog', data, CATALOG)
  assert_damaged(Catalog.load, tmp_path)


def test_refuses_archive_members_that_share_bytes(tmp_path):
  data = archive(codes=CODES)
  entry = data[data.index(b'PK\x01\x02') : data.index(b'PK\x05\x06')]
  end = bytearray(data[-22:])
  end[8:12] = (20).to_bytes(2, 'little') * 2
  end[12:16] = (20 * len(entry)).to_bytes(4, 'little')
  write(tmp_path, 'semantic_ids', data[: -22 - len(entry)] + 20 * entry + end,
        IDS)  # fmt: skip
  with pytest.raises(DataError, match='larger than the file'):
    SemanticIds.load(tmp_path)


@pytest.mark.parametrize(
  'metadata',
  [
    '[' * 100_000,
    '[]',
    'null',
    '{"sha256": 5}',
    IDS | {'level_sizes': [3, '3']},
    IDS | {'level_sizes': [3, 2.5]},
    IDS | {'level_sizes': 5},
    IDS | {'level_sizes': [3, 10**30]},
    IDS | {'level_sizes': [3, -3]},
    IDS | {'level_sizes': []},
    IDS | {'num_meaning_levels': True},
    IDS | {'num_meaning_levels': 0},
    IDS | {'num_meaning_levels': None},
    IDS | {'provenance': 7},
  ],
)
def test_refuses_invalid_json_of_ids(tmp_path, metadata):
  write(tmp_path, 'semantic_ids', archive(codes=CODES), metadata)
  assert_damaged(SemanticIds.load, tmp_path)


@pytest.mark.parametrize(
  ('metadata', 'rows'),
  [
    ({'capacity': None}, [0, 1, 2]),
    ({'capacity': '9'}, [0, 1, 2]),
    ({'capacity': -1}, [0, 1, 2]),
    ({'level_sizes': [3, 2**40]}, [0, 1, 2]),
    ({'level_sizes': [3, 3, 3]}, [0, 1, 2]),
    ({'num_rows': 2}, [0, 1, 2]),
    ({'num_rows': 2**40}, [0, 1, 2]),
    ({'num_rows': 'x'}, [0, 1, 2]),
    ({}, [0, 1, 10**13]),
    ({}, [0, 1, -1]),
    ({}, [0, 1, 1]),
    ({}, [0, 1]),
    ({}, []),
    ({}, [0.0, 1.0, 2.0]),
    ({}, [[0, 1, 2]]),
  ],
)
def test_refuses_invalid_catalogs(tmp_path, metadata, rows):
  data = archive(codes=CODES, rows=np.array(rows))
  write(tmp_path, 'catalog', data, CATALOG | metadata)
  assert_damaged(Catalog.load, tmp_path)


def test_a_catalog_of_immense_capacity_takes_little_memory(tmp_path):
  data = archive(codes=CODES, rows=np.arange(3))
  write(tmp_path, 'catalog', data, CATALOG | {'capacity': 10**13})
  catalog = Catalog.load(tmp_path)
  assert catalog.nbytes < 2**25
  assert catalog.contains(CODES).all()


def _drop(arrays, metadata):
  del arrays[next(iter(arrays))]


def _flatten(arrays, metadata):
  for name in arrays:
    arrays[name] = arrays[name].ravel()


def _change_dim(arrays, metadata):
  metadata['dim'] += 1


def _change_quantizer(arrays, metadata):
  metadata['quantizer'] = 'os.system'


def _nest(arrays, metadata):
  name = next(iter(arrays))
  arrays[f'{name}/0/0/0'] = arrays[name]


def _change_collisions(arrays, metadata):
  metadata['collisions'] = 'any'


def _enlarge_dim(arrays, metadata):
  metadata['dim'] = 10**30


@pytest.mark.parametrize(
  'change',
  [
    _drop,
    _flatten,
    _change_dim,
    _change_quantizer,
    _nest,
    _change_collisions,
    _enlarge_dim,
  ],
)
def test_refuses_invalid_tokenizers(tmp_path, change):
  vectors = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
  fitted = rq_kmeans.fit(jax.random.key(0), vectors, (4, 4))
  Tokenizer(fitted, 'extra_code', 4).save(tmp_path)
  assert Tokenizer.load(tmp_path).dim == 4
  with np.load(tmp_path / 'tokenizer.npz') as file:
    arrays = dict(file)
  metadata = json.loads((tmp_path / 'tokenizer.json').read_text())
  change(arrays, metadata)
  write(tmp_path, 'tokenizer', archive(**arrays), metadata)
  assert_damaged(Tokenizer.load, tmp_path)


def test_refuses_devices_and_pipes(tmp_path):
  write(tmp_path, 'semantic_ids', archive(codes=CODES), IDS)
  (tmp_path / 'semantic_ids.npz').unlink()
  (tmp_path / 'semantic_ids.npz').symlink_to('/dev/zero')
  assert_damaged(SemanticIds.load, tmp_path)
  os.mkfifo(tmp_path / 'embeddings.npy')
  assert_damaged(embedding.load, tmp_path)


@pytest.mark.parametrize(
  'data', [with_rows(10**13), npy(np.zeros(3)), npy(np.zeros((3, 2), int)),
           archive(x=CODES), b'', npy(np.array([[None]]))]
)  # fmt: skip
def test_refuses_invalid_embeddings(tmp_path, data):
  (tmp_path / 'embeddings.npy').write_bytes(data)
  assert_damaged(embedding.load, tmp_path)
