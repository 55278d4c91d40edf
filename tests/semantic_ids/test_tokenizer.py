"""Tests the IDs of old and new items, and the files of the tokenizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config.semantic_ids import COLLISIONS
from tiger_jax.errors import DataError, NumbersError
from tiger_jax.semantic_ids import collisions
from tiger_jax.semantic_ids.ids import SemanticIds
from tiger_jax.semantic_ids.quantizers import autoencoder, registry
from tiger_jax.semantic_ids.quantizers.hierarchical_kmeans import (
  HierarchicalKmeans,
)
from tiger_jax.semantic_ids.quantizers.lsh import Lsh
from tiger_jax.semantic_ids.quantizers.opq import Opq
from tiger_jax.semantic_ids.quantizers.random_ids import RandomIds
from tiger_jax.semantic_ids.quantizers.rq_kmeans import RqKmeans
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae
from tiger_jax.semantic_ids.quantizers.vq_vae import VqVae
from tiger_jax.semantic_ids.tokenizer import Tokenizer

_DIM = 6
_NUM_ITEMS = 40


def _random(*shape):
  rng = np.random.default_rng(shape)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _autoencoder(latent_dim):
  mean = np.arange(_DIM, dtype=np.float32)
  return autoencoder.init(jax.random.key(0), (7, 5), latent_dim, mean, 1 + mean)


# All quantizers have two levels of four codes.
_QUANTIZERS = {
  'rq_vae': lambda: RqVae(_autoencoder(3), (_random(4, 3), _random(4, 3))),
  'vq_vae': lambda: VqVae(_autoencoder(6), (_random(4, 3),)),
  'rq_kmeans': lambda: RqKmeans(
    _random(_DIM), (_random(4, _DIM), _random(4, _DIM))
  ),
  'hierarchical_kmeans': lambda: HierarchicalKmeans(
    jnp.zeros(_DIM),
    (_random(4, _DIM), _random(10, _DIM)),
    (
      jnp.arange(4)[None],
      jnp.array([[0, 1, 2, 3], [4, -1, -1, -1], [5, 6, 7, 8], [9, -1, -1, -1]]),
    ),
  ),
  'opq': lambda: Opq(
    _random(_DIM), _random(_DIM, 4), (_random(4, 2), _random(4, 2))
  ),
  'lsh': lambda: Lsh(_random(_DIM), (_random(2, _DIM), _random(2, _DIM))),
  'random': lambda: RandomIds(
    jnp.asarray([range(1, 13, 2), range(9, 21, 2)], jnp.uint32),
    (jnp.arange(4), jnp.arange(4)),
  ),
}


def _embeddings(num_items=_NUM_ITEMS):
  rng = np.random.default_rng(0)
  return rng.normal(size=(num_items, _DIM)).astype(np.float16)


def _tokenizer(collisions='extra_code', sizes=(4, 4)):
  codebooks = tuple(_random(size, _DIM) for size in sizes)
  return Tokenizer(RqKmeans(jnp.zeros(_DIM), codebooks), collisions, _DIM)


def test_all_quantizers_are_tested():
  assert _QUANTIZERS.keys() == registry.QUANTIZERS.keys()


@pytest.mark.parametrize('name', _QUANTIZERS)
def test_a_loaded_tokenizer_equals_the_saved_tokenizer(name, tmp_path):
  saved = Tokenizer(_QUANTIZERS[name](), 'extra_code', _DIM)
  folder = tmp_path / 'new' / 'folder'
  saved.save(folder)
  assert sorted(path.name for path in folder.iterdir()) == [
    'tokenizer.json',
    'tokenizer.npz',
  ]
  loaded = Tokenizer.load(folder)
  assert type(loaded.quantizer) is type(saved.quantizer)
  assert (loaded.collisions, loaded.dim) == ('extra_code', _DIM)
  leaves, structure = jax.tree.flatten(loaded.quantizer)
  expected_leaves, expected_structure = jax.tree.flatten(saved.quantizer)
  assert structure == expected_structure
  for leaf, expected in zip(leaves, expected_leaves, strict=True):
    assert leaf.dtype == expected.dtype
    np.testing.assert_array_equal(leaf, expected)
  x = _embeddings()
  np.testing.assert_array_equal(
    loaded.make_ids(x, {}).codes, saved.make_ids(x, {}).codes
  )


def test_arrays_in_the_file_have_the_names_of_the_fields(tmp_path):
  Tokenizer(_QUANTIZERS['rq_vae'](), 'optimal', _DIM).save(tmp_path)
  with np.load(tmp_path / 'tokenizer.npz', allow_pickle=False) as arrays:
    assert {'codebooks/0', 'codebooks/1', 'autoencoder/mean'} < set(arrays)
    assert 'autoencoder/encoder/Dense_0/kernel' in arrays


def test_more_than_ten_levels_keep_their_order(tmp_path):
  sizes = tuple(range(1, 13))
  _tokenizer(sizes=sizes).save(tmp_path)
  assert Tokenizer.load(tmp_path).quantizer.level_sizes == sizes


@pytest.mark.parametrize('name', _QUANTIZERS)
def test_make_ids_uses_the_codes_of_the_quantizer(name):
  quantizer = _QUANTIZERS[name]()
  x = _embeddings()
  ids = Tokenizer(quantizer, 'extra_code', _DIM).make_ids(x, {'a': 1})
  codes = quantizer.codes(jnp.asarray(x, jnp.float32))
  np.testing.assert_array_equal(ids.codes[:, :2], codes)
  assert ids.level_sizes[:2] == (4, 4)
  assert ids.provenance == {'a': 1}


@pytest.mark.parametrize('collisions', COLLISIONS)
def test_assign_appends_new_items(collisions):
  tokenizer = _tokenizer(collisions, (8, 8))
  x = _embeddings()
  old = tokenizer.make_ids(x[:25], {'a': 1})
  ids = tokenizer.assign(x[25:], old)
  assert len(ids.codes) == _NUM_ITEMS
  np.testing.assert_array_equal(ids.codes[:25, : old.codes.shape[1]], old.codes)
  assert ids.provenance == {'a': 1}
  if collisions == 'extra_code':
    # The IDs are the same as if no item were new.
    expected = tokenizer.make_ids(x, {})
    np.testing.assert_array_equal(ids.codes, expected.codes)
    assert ids.level_sizes == expected.level_sizes
  else:
    assert ids.level_sizes == (8, 8)


def test_new_items_do_not_change_optimal_ids():
  x = _embeddings(50)
  tokenizer = _tokenizer('optimal', (8, 8))
  old = tokenizer.make_ids(x[:_NUM_ITEMS], {})
  new = x[_NUM_ITEMS:]
  ids = tokenizer.assign(new, old)
  np.testing.assert_array_equal(ids.codes[:_NUM_ITEMS], old.codes)
  assert (ids.codes != tokenizer.make_ids(x, {}).codes).any()
  # New items take the nearest free codes.
  expected = collisions.nearest_free(
    tokenizer.codes(new), tokenizer.quantizer, new, {}, old
  )
  np.testing.assert_array_equal(ids.codes, expected.codes)


def test_assigning_no_items_returns_the_old_ids():
  tokenizer = _tokenizer()
  old = tokenizer.make_ids(_embeddings(), {})
  assert tokenizer.assign(_embeddings(0), old) is old


def test_refuses_an_empty_catalog():
  with pytest.raises(DataError, match='no items'):
    _tokenizer().make_ids(_embeddings(0), {})


def test_refuses_embeddings_with_a_different_width():
  tokenizer = _tokenizer()
  old = tokenizer.make_ids(_embeddings(), {})
  match = 'width 9, but the tokenizer was fitted to width 6: .* same encoder'
  with pytest.raises(DataError, match=match):
    tokenizer.assign(np.zeros((3, 9), np.float32), old)
  with pytest.raises(DataError, match=match):
    tokenizer.make_ids(np.zeros((3, 9), np.float32), {})


@pytest.mark.parametrize('value', [np.nan, -np.inf])
@pytest.mark.parametrize('name', ['rq_vae', 'random'])
def test_refuses_embeddings_that_are_not_finite(name, value):
  tokenizer = Tokenizer(_QUANTIZERS[name](), 'extra_code', _DIM)
  x = _embeddings()
  old = tokenizer.make_ids(x, {})
  x[[7, 30], 2] = value
  with pytest.raises(NumbersError, match='item row 7 is not finite'):
    tokenizer.assign(x, old)


@pytest.mark.parametrize(
  ('collisions', 'level_sizes', 'num_meaning_levels'),
  [
    ('extra_code', (4, 5), 2),
    ('extra_code', (4, 4), 1),
    ('optimal', (4, 4, 2), 2),
  ],
)
def test_assign_refuses_ids_of_another_tokenizer(
  collisions, level_sizes, num_meaning_levels
):
  codes = np.zeros((1, len(level_sizes)), np.int32)
  ids = SemanticIds(codes, level_sizes, num_meaning_levels, {})
  with pytest.raises(DataError, match='not from this tokenizer'):
    _tokenizer(collisions).assign(_embeddings(), ids)


def _flip_a_byte(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


def _replace(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
  'damage',
  [
    lambda folder: _flip_a_byte(folder / 'tokenizer.npz'),
    lambda folder: (folder / 'tokenizer.npz').write_bytes(b''),
    lambda folder: (folder / 'tokenizer.json').write_text('{"quant'),
    lambda folder: (folder / 'tokenizer.json').write_text('[]'),
    lambda folder: (folder / 'tokenizer.json').write_text('{}'),
    lambda folder: _replace(folder / 'tokenizer.json', 'rq_kmeans', 'other'),
    # The class `Opq` has different fields.
    lambda folder: _replace(folder / 'tokenizer.json', 'rq_kmeans', 'opq'),
    lambda folder: _replace(folder / 'tokenizer.json', 'extra_code', 'other'),
  ],
)
def test_load_refuses_damaged_files(tmp_path, damage):
  _tokenizer().save(tmp_path)
  damage(tmp_path)
  with pytest.raises(DataError, match='damaged .*: delete the folder') as e:
    Tokenizer.load(tmp_path)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer.npz'])
def test_load_refuses_missing_files(tmp_path, name):
  _tokenizer().save(tmp_path)
  (tmp_path / name).unlink()
  with pytest.raises(DataError, match=f'{name} is missing: run'):
    Tokenizer.load(tmp_path)
