"""The embedding stage: what it writes, and what it refuses to read."""

import numpy as np
import pytest

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.sources import synthetic
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import DataError
from tiger_jax.stages import embedding


def test_a_vector_per_item_is_written_and_read(tmp_path):
  items = synthetic.make(5, seed=0).items
  config = EmbeddingConfig(encoder='tfidf-svd', dim=4)
  assert embedding.build(config, items, tmp_path) == {}
  found = embedding.load(tmp_path)
  np.testing.assert_array_equal(found, embed_items(config, items))
  assert found.shape == (len(items.ids), 4) and found.dtype == np.float32


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'not an array'])
def test_damaged_vectors_are_one_line(tmp_path, content):
  (tmp_path / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match=r'embeddings\.npy is damaged') as error:
    embedding.load(tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('array', 'named'),
  [
    (np.ones(3, np.float32), r'float32\[3\]'),
    (np.ones((3, 2), np.int32), r'int32\[3, 2\]'),
  ],
)
def test_vectors_of_another_form_are_refused(tmp_path, array, named):
  np.save(tmp_path / 'embeddings.npy', array)
  with pytest.raises(DataError, match=f'is damaged.*{named}'):
    embedding.load(tmp_path)


def test_reports_name_the_encoder_and_no_folder(tmp_path):
  (tmp_path / 'encoder').mkdir()
  for values, expected in (
    ({'model': 'someone/model'}, 'someone/model'),
    ({'model': f'{tmp_path}/encoder'}, 'encoder'),
    ({'encoder': 'tfidf-svd'}, 'tfidf-svd'),
    (
      {'encoder': 'precomputed', 'path': f'{tmp_path}/a.npy'},
      'precomputed (a.npy)',
    ),
  ):
    assert embedding.encoder_name(EmbeddingConfig(**values)) == expected
