"""Compares `embed` and `assign` with the single-machine path."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('apache_beam', reason='needs the extra beam')

from tests import small  # noqa: E402
from tests.beam import shops  # noqa: E402
from tiger_jax.beam import assign as assigning  # noqa: E402
from tiger_jax.beam import embed as embedding  # noqa: E402
from tiger_jax.beam.assign import assign  # noqa: E402
from tiger_jax.beam.embed import embed  # noqa: E402
from tiger_jax.beam.prepare import prepare  # noqa: E402
from tiger_jax.config import EmbeddingConfig  # noqa: E402
from tiger_jax.data.dataset import Dataset  # noqa: E402
from tiger_jax.embedding.encoders import embed_items  # noqa: E402
from tiger_jax.errors import DataError, NumbersError  # noqa: E402
from tiger_jax.semantic_ids.ids import SemanticIds  # noqa: E402
from tiger_jax.semantic_ids.tokenizer import Tokenizer  # noqa: E402

# A text model that reads one sentence at a time.
_MODEL = """
import hashlib
import numpy as np

class SentenceTransformer:
  def __init__(self, *unused, **options):
    pass

  def encode(self, sentences, **options):
    digests = [hashlib.sha256(x.encode()).digest() for x in sentences]
    return np.array([list(x[:8]) for x in digests], np.float32)
"""


@pytest.fixture(name='prepared')
def _prepared(tmp_path):
  shop = shops.write(
    tmp_path / 'shop', shops.events(), 'csv', catalog=small.items(60)
  )
  prepare(shops.config(shop), ('title',), tmp_path / 'prepared', shops.ONE)
  return tmp_path / 'prepared'


def test_the_vectors_of_a_text_model_are_joined_in_order(
  prepared, tmp_path, monkeypatch
):
  library = tmp_path / 'library'
  (library / 'model').mkdir(parents=True)
  (library / 'sentence_transformers.py').write_text(_MODEL)
  (library / 'huggingface_hub.py').touch()
  monkeypatch.syspath_prepend(library)
  monkeypatch.setattr(embedding, '_NUM_ITEMS', 7)
  config = EmbeddingConfig(model=str(library / 'model'))
  num, dim = embed(config, prepared, tmp_path / 'vectors', shops.ONE)
  items = shops.on_one_machine(shops.config(prepared)).items
  assert (num, dim) == (len(items), 8)
  assert json.loads((tmp_path / 'vectors/ids.json').read_text()) == [*items.ids]
  vectors = np.load(tmp_path / 'vectors' / 'embeddings.npy')
  np.testing.assert_array_equal(vectors, embed_items(config, items))
  # The encoder `precomputed` reads the folder.
  config = EmbeddingConfig(
    encoder='precomputed', path=str(tmp_path / 'vectors' / 'embeddings.npy'),
    ids_path=str(tmp_path / 'vectors' / 'ids.json'),
  )  # fmt: skip
  np.testing.assert_array_equal(vectors, embed_items(config, items))


def write_vectors(folder, ids, vectors):
  folder.mkdir(exist_ok=True)
  np.save(folder / 'embeddings.npy', vectors)
  (folder / 'ids.json').write_text(json.dumps(ids))


@pytest.fixture(name='shop')
def _shop(trained, monkeypatch):
  """The ids and the vectors of a run, and tasks of few vectors."""
  monkeypatch.setattr(assigning, '_NUM_VECTORS', 16)
  monkeypatch.setattr(assigning, '_BATCH', 8)
  ids = list(Dataset.load(trained / 'data').items.ids)
  return ids, np.load(trained / 'embedding' / 'embeddings.npy')


def test_new_items_get_the_semantic_ids_of_one_machine(trained, shop, tmp_path):
  ids, vectors = shop
  rng = np.random.default_rng(0)
  # Some have the codes of known items, so there are collisions.
  new = np.concatenate([vectors[:9], rng.normal(size=(20, 8))])
  new = new.astype(np.float32)
  all_ids = [*ids, *(f'new{i}' for i in range(len(new)))]
  order = rng.permutation(len(all_ids))
  write_vectors(
    tmp_path / 'vectors', [all_ids[x] for x in order],
    np.concatenate([vectors, new])[order],
  )  # fmt: skip
  result = assign(trained, tmp_path / 'vectors', tmp_path / 'out', shops.ONE)
  assert result == (len(order), len(new))
  stage = trained / 'semantic_ids'
  run = SemanticIds.load(stage)
  in_order = [x - len(ids) for x in order if x >= len(ids)]
  expected = Tokenizer.load(stage).assign(new[in_order], run)
  codes = np.empty((len(order), expected.codes.shape[1]), np.int32)
  codes[order < len(ids)] = expected.codes[order[order < len(ids)]]
  codes[order >= len(ids)] = expected.codes[len(ids) :]
  assigned = SemanticIds.load(tmp_path / 'out')
  np.testing.assert_array_equal(assigned.codes, codes)
  assert assigned.level_sizes == expected.level_sizes
  # Another order of the new items would give other collision codes.
  other = Tokenizer.load(stage).assign(new[in_order][::-1].copy(), run)
  assert (other.codes != expected.codes).any()


def test_ranges_cover_all_items():
  for num in (1, 4095, 2**16, 2**16 + 1, 2**16 + 4096, 3 * 2**16 + 5):
    ranges = assigning._ranges(num)
    assert [x for start, stop in ranges for x in (start, stop)][::2] == [
      0, *(stop for _, stop in ranges[:-1]),
    ]  # fmt: skip
    assert ranges[-1][1] == num
    assert len(ranges) == 1 or min(b - a for a, b in ranges) >= 4096


@pytest.mark.parametrize(
  ('change', 'error', 'message'),
  [
    (lambda ids, x: ([f'other{i}' for i in ids], x), DataError, 'none of'),
    (lambda ids, x: (ids, x[::-1]), DataError, 'have other vectors'),
    (lambda ids, x: (ids, x[:, :5]), DataError, 'width 5'),
    (lambda ids, x: (ids[1:], x), DataError, '39 ids'),
    (lambda ids, x: (ids, np.where(np.arange(40)[:, None] == 33, np.nan, x)),
     NumbersError, 'item row 33'),
  ],
)  # fmt: skip
def test_wrong_vectors_are_refused(
  trained, shop, tmp_path, change, error, message
):
  ids, vectors = change(*shop)
  write_vectors(tmp_path / 'vectors', ids, vectors.astype(np.float32))
  with pytest.raises(error, match=message):
    assign(trained, tmp_path / 'vectors', tmp_path / 'out', shops.ONE)
  assert not (tmp_path / 'out').exists()
  assert not (tmp_path / 'out.partial').exists()


def test_the_vectors_of_the_run_are_its_own_after_collisions(
  trained, shop, tmp_path, monkeypatch
):
  """With `optimal`, the codes of items are not those of their vectors."""
  ids, vectors = shop
  write_vectors(tmp_path / 'vectors', ids, vectors)
  run = SemanticIds.load(trained / 'semantic_ids')
  monkeypatch.setattr(assigning.Tokenizer, 'codes', lambda self, x: (
    np.zeros((len(x), len(self.quantizer.level_sizes)), np.int32)
  ))  # fmt: skip
  assign(trained, tmp_path / 'vectors', tmp_path / 'out', shops.ONE)
  codes = SemanticIds.load(tmp_path / 'out').codes
  np.testing.assert_array_equal(codes, run.codes)


def test_a_run_without_a_tokenizer_is_refused(trained, shop, tmp_path):
  write_vectors(tmp_path / 'vectors', *shop)
  shutil.copytree(trained / 'data', tmp_path / 'run' / 'data')
  with pytest.raises(DataError, match='semantic_ids'):
    assign(tmp_path / 'run', tmp_path / 'vectors', tmp_path / 'o', shops.ONE)
