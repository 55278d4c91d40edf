import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding.encoders import embed_items
from tiger_jax.embedding.text import item_sentences
from tiger_jax.errors import UsageError


@pytest.fixture
def items(make_items):
  return make_items(
    soap={'title': 'Rose soap bar', 'brand': 'Acme'},
    soap2={'title': 'Rose soap bar, large', 'brand': 'Acme'},
    brush={'title': 'Hair brush of wood', 'brand': 'Birch'},
    comb={'title': 'Wide hair comb of wood', 'brand': 'Birch'},
  )


def cosine(x: np.ndarray, y: np.ndarray) -> float:
  return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_tfidf_sets_like_beside_like(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=3)
  soap, soap2, brush, comb = embed_items(config, items)

  assert soap.dtype == np.float32 and soap.shape == (3,)
  for alike in (cosine(soap, soap2), cosine(brush, comb)):
    for unlike in (cosine(soap, brush), cosine(soap2, comb)):
      assert alike > unlike + 0.3


def test_tfidf_gives_the_same_vectors_every_time(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=3)

  np.testing.assert_array_equal(
    embed_items(config, items), embed_items(config, items)
  )


def test_tfidf_at_full_width_keeps_every_angle(items):
  """With as many directions as items, nothing may be lost."""
  vectors = embed_items(EmbeddingConfig(encoder='tfidf-svd', dim=4), items)
  counts = TfidfVectorizer(
    ngram_range=(1, 2), token_pattern=r'\b\w+\b', sublinear_tf=True
  ).fit_transform(item_sentences(items))
  np.testing.assert_allclose(
    vectors @ vectors.T, (counts @ counts.T).toarray(), atol=1e-5
  )


def test_tfidf_says_how_wide_it_can_be(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=5)

  with pytest.raises(UsageError, match=r'dim is 5: .* at most 4 from 4 items'):
    embed_items(config, items)


def test_tfidf_of_items_without_a_word(make_items):
  items = make_items(**{'--': {}, '+': {}})
  config = EmbeddingConfig(encoder='tfidf-svd', dim=1)

  with pytest.raises(UsageError, match='no item has a word'):
    embed_items(config, items)


def test_a_missing_package_names_the_way_out(items, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sentence_transformers', None)

  with pytest.raises(UsageError) as caught:
    embed_items(EmbeddingConfig(), items)
  message = str(caught.value)
  assert '\n' not in message
  for word in ("pip install -e '.[text]'", 'tfidf-svd', 'precomputed'):
    assert word in message
