"""The stage of the Semantic IDs: every quantizer, and a shared ID space."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tiger_jax.config import Config, SemanticIdsConfig
from tiger_jax.config.config_dict import from_json
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import (
  CheckpointError,
  DataError,
  NumbersError,
  UsageError,
)
from tiger_jax.runtime.writers import MetricsWriter
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.tokenizer import QUANTIZERS, Tokenizer
from tiger_jax.stages import semantic_ids
from tiger_jax.storage.artefacts import run_stage
from tiger_jax.storage.fingerprints import fingerprint

_PER_LEVEL = {
  'usage', 'perplexity', 'collision_rate', 'unique_prefix_rate',
  'reconstruction_error', 'category_purity',
}  # fmt: skip


def _items(num_items, name='shop'):
  fields = dict.fromkeys(FIELDS, ('',) * num_items)
  fields['categories'] = tuple(f'All > {"AB"[i % 2]}' for i in range(num_items))
  return Items(tuple(f'{name}-{i}' for i in range(num_items)), fields)


def _dataset(num_items, unseen=()):
  return Dataset(
    'shop', _items(num_items), (), np.zeros(0, np.int32), np.zeros(1, np.int64),
    unseen=np.array(unseen, np.int32),
  )  # fmt: skip


def _embeddings(num_items, seed=0, dim=6):
  rng = np.random.default_rng(seed)
  centers = np.random.default_rng(99).normal(size=(8, dim))
  x = centers[rng.integers(8, size=num_items)]
  return (x + 0.3 * rng.normal(size=(num_items, dim))).astype(np.float32)


def _config(**changes):
  settings = {
    'codebook_sizes': (4, 4),
    'latent_dim': 4,
    'hidden_dims': (8,),
    'batch_size': 16,
    'epochs': 3,
    'restart_epochs': 2,
  }
  return Config(semantic_ids=SemanticIdsConfig(**settings | changes))


def _shop(name, embeddings):
  return semantic_ids.Shop(name, name, embeddings)


def _make(
  folder,
  config,
  embeddings,
  others=(),
  name='shop',
  writer_class=MetricsWriter,
  unseen=(),
):
  folder.mkdir(exist_ok=True)
  writer = writer_class(folder)
  semantic_ids.make_semantic_ids(
    config,
    _dataset(len(embeddings), unseen),
    _shop(name, embeddings),
    others,
    folder / 'semantic_ids',
    writer,
  )
  writer.close()
  return folder / 'semantic_ids'


@pytest.mark.parametrize('quantizer', ['rq_kmeans', 'lsh'])
def test_unseen_items_get_ids_as_new_ones_do(tmp_path, quantizer):
  """Nothing of them is in the codebooks, nor in the IDs of the others."""
  embeddings = _embeddings(60)
  unseen = [3, 17, 59]
  config = _config(quantizer=quantizer)
  folder = _make(tmp_path / 'run', config, embeddings, unseen=unseen)
  ids = SemanticIds.load(folder)
  seen = np.setdiff1d(np.arange(60), unseen)
  alone = SemanticIds.load(_make(tmp_path / 'alone', config, embeddings[seen]))
  width = alone.codes.shape[1]
  np.testing.assert_array_equal(ids.codes[seen, :width], alone.codes)
  assert len(np.unique(ids.codes, axis=0)) == 60
  tokenizer = Tokenizer.load(folder)
  new = tokenizer.assign(embeddings[unseen], alone)
  np.testing.assert_array_equal(ids.codes[unseen], new.codes[len(seen) :])


def test_unseen_items_of_shared_shops_are_refused(tmp_path):
  other = _shop('other', _embeddings(20, seed=1))
  with pytest.raises(UsageError, match='unseen_share.*shared_with'):
    _make(
      tmp_path / 'run', _config(), _embeddings(30), others=[other], unseen=[1]
    )


@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_every_quantizer_leaves_ids_a_tokenizer_and_a_report(
  tmp_path, quantizer
):
  embeddings = _embeddings(60)
  folder = _make(tmp_path / 'run', _config(quantizer=quantizer), embeddings)
  ids = SemanticIds.load(folder)
  assert len(ids.codes) == 60
  assert ids.num_meaning_levels == 2
  assert ids.provenance['quantizer'] == quantizer
  tokenizer = Tokenizer.load(folder)
  again = tokenizer.make_ids(embeddings, ids.provenance)
  np.testing.assert_array_equal(again.codes, ids.codes)
  # A server can take up what the shop did not have.
  grown = tokenizer.assign(_embeddings(9, seed=1), ids)
  assert len(grown.codes) == 69
  np.testing.assert_array_equal(
    grown.codes[:60, : ids.codes.shape[1]], ids.codes
  )
  measured = json.loads((folder / 'quality.json').read_text())
  for name in _PER_LEVEL:
    assert measured[name] is None or len(measured[name]) == 2, name
  pictures = {path.name for path in folder.glob('*.png')}
  assert pictures == {'categories.png', 'codes.png'}


class _Stopping(MetricsWriter):
  """Lets the training be stopped when its sixth step is done."""

  def write(self, stage, step, values):
    if step >= 6:
      raise KeyboardInterrupt
    super().write(stage, step, values)


def test_training_that_was_stopped_ends_as_if_it_were_not(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(item_batches, '_CALL_STEPS', 3)
  config, embeddings = _config(quantizer='rq_vae'), _embeddings(60)
  whole = _make(tmp_path / 'whole', config, embeddings)
  folder = tmp_path / 'stopped'
  with pytest.raises(KeyboardInterrupt):
    _make(folder, config, embeddings, writer_class=_Stopping)
  saved = {x.name for x in (folder / 'semantic_ids' / 'checkpoints').iterdir()}
  assert saved == {'3'}
  _make(folder, config, embeddings)
  for name in ('ledger', 'tokenizer.npz'):
    found = (folder / 'semantic_ids' / name).read_bytes()
    assert found == (whole / name).read_bytes(), name
  assert len((whole / 'ledger').read_text().splitlines()) == 9
  np.testing.assert_array_equal(
    SemanticIds.load(folder / 'semantic_ids').codes,
    SemanticIds.load(whole).codes,
  )


def test_what_was_trained_otherwise_is_not_gone_on_from(tmp_path):
  config, embeddings = _config(quantizer='rq_vae'), _embeddings(60)
  _make(tmp_path / 'run', config, embeddings)
  with pytest.raises(CheckpointError, match='semantic_ids.beta is 0.25, exp'):
    _make(tmp_path / 'run', _config(quantizer='rq_vae', beta=0.5), embeddings)


def test_nearest_free_needs_no_extra_code(tmp_path):
  config = _config(
    quantizer='rq_kmeans', collisions='nearest_free', codebook_sizes=(4, 4, 4)
  )
  folder = _make(tmp_path / 'run', config, _embeddings(60))
  ids = SemanticIds.load(folder)
  assert ids.level_sizes == (4, 4, 4)
  measured = json.loads((folder / 'quality.json').read_text())
  assert measured['collision_rate'][-1] == 0


def test_shops_that_share_have_one_tokenizer_and_no_id_in_common(tmp_path):
  one, two = _embeddings(60), _embeddings(40, seed=1)
  config = _config(quantizer='rq_kmeans')
  first = _make(tmp_path / 'a', config, one, [_shop('b', two)], 'a')
  second = _make(tmp_path / 'b', config, two, [_shop('a', one)], 'b')
  files = [x / 'tokenizer.npz' for x in (first, second)]
  assert files[0].read_bytes() == files[1].read_bytes()
  ids = [SemanticIds.load(x) for x in (first, second)]
  assert [len(x.codes) for x in ids] == [60, 40]
  assert ids[0].level_sizes == ids[1].level_sizes
  assert ids[0].provenance['fitted_to'] == 'a, b'
  rows = {tuple(row) for x in ids for row in x.codes.tolist()}
  assert len(rows) == 100


@pytest.mark.parametrize('quantizer', ['rq_vae', 'rq_kmeans', 'lsh'])
def test_vectors_that_are_not_finite_are_one_line(tmp_path, quantizer):
  embeddings = _embeddings(60)
  embeddings[7, 3] = np.inf
  with pytest.raises(NumbersError, match='item row 7 is not finite'):
    _make(tmp_path / 'run', _config(quantizer=quantizer), embeddings)


@pytest.mark.parametrize('quantizer', ['rq_vae', 'vq_vae', 'rq_kmeans', 'opq'])
def test_fewer_items_than_codes_is_one_line(tmp_path, quantizer):
  config = _config(quantizer=quantizer, codebook_sizes=(31, 31))
  with pytest.raises(UsageError, match='than there are items, 30: try '):
    _make(tmp_path / 'run', config, _embeddings(30))


def test_a_first_batch_smaller_than_a_codebook_is_one_line(tmp_path):
  config = _config(kmeans_init='first_batch', codebook_sizes=(20, 4))
  with pytest.raises(UsageError, match='batch_size, 16'):
    _make(tmp_path / 'run', config, _embeddings(60))


def test_fewer_ids_than_items_is_said_before_anything_is_fitted(tmp_path):
  config = _config(collisions='nearest_free')
  with pytest.raises(UsageError, match='allow 16 IDs, fewer than the 60'):
    _make(tmp_path / 'run', config, _embeddings(60))
  assert not (tmp_path / 'run' / 'semantic_ids').exists()


def test_what_does_not_matter_is_not_part_of_the_fingerprint():
  def made_from(**changes):
    return semantic_ids.made_from(SemanticIdsConfig(**changes), [])

  assert made_from(quantizer='lsh') == made_from(quantizer='lsh', epochs=9)
  assert made_from(epochs=9) != made_from()
  assert made_from(codebook_sizes=(256,) * 3) == made_from()
  unread = {'codebook_sizes', 'shared_with'}
  fields = {x.name for x in dataclasses.fields(SemanticIdsConfig)} - unread
  assert made_from().keys() == fields | {'level_sizes', 'shared_with'}


@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_duplicates_and_constant_dimensions_are_counted(tmp_path, quantizer):
  embeddings = _embeddings(60)
  embeddings[:, 2] = 5
  embeddings[10:13] = embeddings[9]
  folder = _make(tmp_path / 'run', _config(quantizer=quantizer), embeddings)
  measured = json.loads((folder / 'quality.json').read_text())
  assert measured['constant_dimensions'] == 1
  assert measured['duplicate_items'] == 4
  codes = SemanticIds.load(folder).codes
  assert len({tuple(row) for row in codes.tolist()}) == 60


def _workdir(path, name, embedding, num_items=20, dim=6):
  """Makes what `--mode=embed` leaves."""
  items = _items(num_items, name)
  dataset = Dataset(
    name, items, ('u',), np.zeros(3, np.int32), np.array([0, 3], np.int64)
  )
  path.mkdir()
  run_stage(path, 'data', fingerprint('x'), dataset.save, about={})

  def embed(folder):
    np.save(folder / 'embeddings.npy', _embeddings(num_items, dim=dim))

  about = {'config': {'embedding': embedding}}
  run_stage(path, 'embedding', fingerprint(name), embed, about=about)
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


def test_other_shops_are_read_from_their_workdirs(tmp_path):
  workdirs = [_workdir(tmp_path / x, x, _SAME) for x in ('toys', 'sports')]
  shops = semantic_ids.read_shared(_sharing(workdirs), 'own')
  names = [f'{path.name} of {path}' for path in map(Path, workdirs)]
  assert [shop.name for shop in shops] == names
  assert [shop.fingerprint for shop in shops] == [
    fingerprint('toys'), fingerprint('sports'),
  ]  # fmt: skip
  np.testing.assert_array_equal(shops[0].embeddings, _embeddings(20))
  assert not semantic_ids.read_shared(_sharing([]), 'own')


def test_a_workdir_without_embeddings_is_one_line(tmp_path):
  with pytest.raises(DataError, match='run --mode=embed there first'):
    semantic_ids.read_shared(_sharing([str(tmp_path / 'nothing')]), 'own')


def test_vectors_of_another_encoder_are_one_line(tmp_path):
  other = _workdir(tmp_path / 'toys', 'toys', _SAME | {'model': 'other'})
  with pytest.raises(DataError, match='embedded with other, this run with m:'):
    semantic_ids.read_shared(_sharing([other]), 'own')


def test_vectors_of_another_width_are_one_line(tmp_path):
  config = _config(quantizer='rq_kmeans')
  other = _shop('b', _embeddings(20, dim=5))
  with pytest.raises(DataError, match='6 wide, those of b 5'):
    _make(tmp_path / 'run', config, _embeddings(20), [other], 'a')


def test_spaces_that_differ_by_nature_are_one_line():
  with pytest.raises(UsageError, match='tfidf-svd makes one for each shop'):
    semantic_ids.read_shared(_sharing(['anywhere'], encoder='tfidf-svd'), 'own')


def test_a_shop_named_twice_is_one_line(tmp_path):
  toys = _workdir(tmp_path / 'toys', 'toys', _SAME)
  with pytest.raises(UsageError, match='/toys, whose items are those of this'):
    semantic_ids.read_shared(_sharing([toys]), fingerprint('toys'))
  with pytest.raises(UsageError, match='/toys, whose items are those of this'):
    semantic_ids.read_shared(_sharing([toys, toys]), 'own')


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'not an array'])
def test_damaged_vectors_are_one_line(tmp_path, content):
  (tmp_path / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match=r'embeddings\.npy is damaged'):
    semantic_ids.read_embeddings(tmp_path)


@pytest.mark.parametrize(
  ('steps', 'is_refused'), [(12, False), (13, True), (10**9, True)]
)
def test_a_warmup_longer_than_the_training_of_a_quantizer(steps, is_refused):
  def refuse(**changes):
    ids = {
      'quantizer': 'rq_vae', 'codebook_sizes': [4], 'epochs': 3,
      'batch_size': 8, 'optimizer': {'warmup_steps': steps},
    }  # fmt: skip
    config = from_json({'semantic_ids': ids | changes})
    semantic_ids.refuse_sizes(config.semantic_ids, 39)

  refuse(quantizer='rq_kmeans')
  refuse(optimizer={'warmup_steps': steps, 'recipe': 'adagrad'})
  if not is_refused:
    refuse()
    return
  with pytest.raises(UsageError) as error:
    refuse()
  message = str(error.value)
  assert 'config.semantic_ids.optimizer.warmup_steps' in message
  assert '12 steps' in message and 'config.semantic_ids.epochs' in message
