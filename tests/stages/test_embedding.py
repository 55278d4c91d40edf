"""Tests of the embedding stage."""

import numpy as np
import pytest

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.sources import synthetic
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.errors import DataError
from tiger_jax.stages import embedding


def test_writes_and_reads_a_vector_per_item(tmp_path):
  items = synthetic.make(5, seed=0).items
  config = EmbeddingConfig(encoder='tfidf-svd', dim=4)
  assert embedding.build(config, items, tmp_path) == {}
  vectors = embedding.load(tmp_path)
  np.testing.assert_array_equal(vectors, embed_items(config, items))
  assert vectors.shape == (len(items.ids), 4) and vectors.dtype == np.float32


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'not an array'])
def test_damaged_vectors_raise_a_one_line_error(tmp_path, content):
  (tmp_path / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match=r'embeddings\.npy is damaged') as error:
    embedding.load(tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('array', 'description'),
  [
    (np.ones(3, np.float32), r'float32\[3\]'),
    (np.ones((3, 2), np.int32), r'int32\[3, 2\]'),
  ],
)
def test_refuses_vectors_with_a_wrong_shape_or_dtype(
  tmp_path, array, description
):
  np.save(tmp_path / 'embeddings.npy', array)
  with pytest.raises(DataError, match=f'is damaged.*{description}'):
    embedding.load(tmp_path)


def test_reports_name_the_encoder_without_its_folder(tmp_path):
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
