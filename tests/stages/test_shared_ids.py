"""Tests of ID spaces that several shops share."""

from pathlib import Path

import numpy as np
import pytest

from tests.stages.quantizing import (
  build,
  make_config,
  make_embeddings,
  make_items,
  make_shop,
)
from tiger_jax.config import SemanticIdsConfig
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError, UsageError
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.stages import semantic_ids
from tiger_jax.storage.artifacts import run_stage
from tiger_jax.storage.fingerprints import fingerprint


def test_shops_that_share_ids_have_one_tokenizer_and_distinct_ids(tmp_path):
  one, two = make_embeddings(60), make_embeddings(40, seed=1)
  config = make_config(quantizer='rq_kmeans')
  first = build(tmp_path / 'a', config, one, [make_shop('b', two)], 'a')
  second = build(tmp_path / 'b', config, two, [make_shop('a', one)], 'b')
  files = [x / 'tokenizer.npz' for x in (first, second)]
  assert files[0].read_bytes() == files[1].read_bytes()
  ids = [SemanticIds.load(x) for x in (first, second)]
  assert [len(x.codes) for x in ids] == [60, 40]
  assert ids[0].level_sizes == ids[1].level_sizes
  assert ids[0].provenance['fitted_to'] == 'a, b'
  rows = {tuple(row) for x in ids for row in x.codes.tolist()}
  assert len(rows) == 100


def test_fingerprint_depends_on_vectors_of_other_shops_not_on_folders():
  config = SemanticIdsConfig(shared_with=('runs/a', 'runs/b'))
  moved = SemanticIdsConfig(shared_with=('elsewhere/a', 'elsewhere/b'))
  shops = [make_shop(name, make_embeddings(2)) for name in 'ab']
  made_from = semantic_ids.made_from(config, shops)
  assert made_from['shared_with'] == ['a', 'b']
  assert semantic_ids.made_from(moved, shops[::-1]) == made_from


def _workdir(path, name, embedding, num_items=20, dim=6):
  """Makes a workdir with the stages of `--mode=embed`, and returns its path."""
  items = make_items(num_items, name)
  dataset = Dataset(
    name, items, ('u',), np.zeros(3, np.int32), np.array([0, 3], np.int64)
  )
  path.mkdir()
  run_stage(path, 'data', fingerprint('x'), dataset.save, metadata={})

  def embed(folder):
    np.save(folder / 'embeddings.npy', make_embeddings(num_items, dim=dim))

  metadata = {'config': {'embedding': embedding}}
  run_stage(path, 'embedding', fingerprint(name), embed, metadata=metadata)
  return str(path)


def _sharing(workdirs, name='amazon2014/Beauty', **embedding):
  embedding = {'encoder': 'sentence-transformers', 'model': 'm'} | embedding
  return from_json(
    {
      'dataset': {'name': name},
      'embedding': embedding,
      'semantic_ids': {'shared_with': workdirs},
    }
  )


_SAME = {'encoder': 'sentence-transformers', 'model': 'm'}


def test_reads_other_shops_from_their_workdirs(tmp_path):
  workdirs = [_workdir(tmp_path / x, x, _SAME) for x in ('toys', 'sports')]
  shops = semantic_ids.read_shared(_sharing(workdirs), 'own')
  names = [f'{path.name} of {path}' for path in map(Path, workdirs)]
  assert [shop.name for shop in shops] == names
  assert [shop.fingerprint for shop in shops] == [
    fingerprint('toys'), fingerprint('sports'),
  ]  # fmt: skip
  np.testing.assert_array_equal(shops[0].embeddings, make_embeddings(20))
  assert not semantic_ids.read_shared(_sharing([]), 'own')


def test_refuses_a_workdir_without_embeddings(tmp_path):
  with pytest.raises(DataError, match='run --mode=embed there first'):
    semantic_ids.read_shared(_sharing([str(tmp_path / 'nothing')]), 'own')


def test_refuses_vectors_of_another_encoder(tmp_path):
  other = _workdir(tmp_path / 'toys', 'toys', _SAME | {'model': 'other'})
  with pytest.raises(
    DataError, match='embedded with other, but this run uses m:'
  ):
    semantic_ids.read_shared(_sharing([other]), 'own')


def test_refuses_vectors_of_another_width(tmp_path):
  config = make_config(quantizer='rq_kmeans')
  other = make_shop('b', make_embeddings(20, dim=5))
  with pytest.raises(DataError, match='6 dimensions, but those of b have 5'):
    build(tmp_path / 'run', config, make_embeddings(20), [other], 'a')


def test_refuses_a_shop_that_is_named_twice(tmp_path):
  toys = _workdir(tmp_path / 'toys', 'toys', _SAME)
  message = '/toys, which has the same items as this'
  with pytest.raises(UsageError, match=message):
    semantic_ids.read_shared(_sharing([toys]), fingerprint('toys'))
  with pytest.raises(UsageError, match=message):
    semantic_ids.read_shared(_sharing([toys, toys]), 'own')
