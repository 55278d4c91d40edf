import sys
import types

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding import encoders
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


class Library(types.ModuleType):
  """Replaces the real model, and records its arguments."""

  def __init__(self):
    super().__init__('sentence_transformers')
    self.asked = []

  def SentenceTransformer(self, name, **options):  # noqa: N802
    self.asked.append((name, options))
    raise OSError('that is all\x1b[2J' + 'x' * 10_000)


@pytest.mark.parametrize(
  ('model', 'name', 'revision'),
  [
    ('a/b', 'a/b', None),
    ('a/b@1234abc', 'a/b', '1234abc'),
    ('a/b@v1@x', 'a/b@v1', 'x'),
    ('@x', '@x', None),
  ],
)
def test_a_model_of_the_hub_may_have_a_revision(
  items, monkeypatch, model, name, revision
):
  library = Library()
  monkeypatch.setitem(sys.modules, 'sentence_transformers', library)
  monkeypatch.setattr(encoders, '_hub_answers', lambda *_: True)
  with pytest.raises(UsageError) as caught:
    embed_items(EmbeddingConfig(model=model), items)
  ((asked, options),) = library.asked
  assert (asked, options['revision']) == (name, revision)
  assert options['trust_remote_code'] is False
  assert str(caught.value).isprintable()
  assert len(str(caught.value)) < 600


def test_a_folder_has_no_revision(items, monkeypatch, tmp_path):
  folder = tmp_path / 'model@1'
  folder.mkdir()
  assert encoders.model_and_revision(str(folder)) == (str(folder), None)


def test_a_missing_package_names_the_way_out(items, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sentence_transformers', None)

  with pytest.raises(UsageError) as caught:
    embed_items(EmbeddingConfig(), items)
  message = str(caught.value)
  assert '\n' not in message
  for word in ("pip install -e '.[text]'", 'tfidf-svd', 'precomputed'):
    assert word in message
