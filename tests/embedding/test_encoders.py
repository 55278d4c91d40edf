import sys
import types

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding import encoders
from tiger_jax.embedding.encoders import embed_items, text_encoder
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


def test_tfidf_vectors_of_similar_items_are_similar(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=3)
  soap, soap2, brush, comb = embed_items(config, items)

  assert soap.dtype == np.float32 and soap.shape == (3,)
  for similar in (cosine(soap, soap2), cosine(brush, comb)):
    for dissimilar in (cosine(soap, brush), cosine(soap2, comb)):
      assert similar > dissimilar + 0.3


def test_tfidf_is_deterministic(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=3)

  np.testing.assert_array_equal(
    embed_items(config, items), embed_items(config, items)
  )


def test_tfidf_encodes_new_text_like_the_text_of_the_run(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=3)
  encode = text_encoder(config, items)
  vectors = embed_items(config, items)
  np.testing.assert_allclose(encode(items), vectors, atol=1e-5)
  with pytest.raises(UsageError, match="'tfidf-svd' .* pass the vector"):
    text_encoder(config, None)


def test_tfidf_is_lossless_if_dim_equals_the_number_of_items(items):
  vectors = embed_items(EmbeddingConfig(encoder='tfidf-svd', dim=4), items)
  weights = TfidfVectorizer(
    ngram_range=(1, 2), token_pattern=r'\b\w+\b', sublinear_tf=True
  ).fit_transform(item_sentences(items))
  np.testing.assert_allclose(
    vectors @ vectors.T, (weights @ weights.T).toarray(), atol=1e-5
  )


def test_the_error_for_too_many_tfidf_dimensions_names_the_limit(items):
  config = EmbeddingConfig(encoder='tfidf-svd', dim=5)

  message = r'dim is 5: .* at most 4 dimensions from 4 items'
  with pytest.raises(UsageError, match=message):
    embed_items(config, items)


def test_tfidf_refuses_items_without_a_word(make_items):
  items = make_items(**{'--': {}, '+': {}})
  config = EmbeddingConfig(encoder='tfidf-svd', dim=1)

  with pytest.raises(UsageError, match='no item has a word'):
    embed_items(config, items)


class Library(types.ModuleType):
  """A fake sentence_transformers module that records the requested models."""

  def __init__(self):
    super().__init__('sentence_transformers')
    self.calls = []

  def SentenceTransformer(self, name, **options):  # noqa: N802
    self.calls.append((name, options))
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
  ((called_name, options),) = library.calls
  assert (called_name, options['revision']) == (name, revision)
  assert options['trust_remote_code'] is False
  assert str(caught.value).isprintable()
  assert len(str(caught.value)) < 600


def test_an_at_sign_in_the_name_of_a_folder_starts_no_revision(
  items, monkeypatch, tmp_path
):
  folder = tmp_path / 'model@1'
  folder.mkdir()
  assert encoders.model_and_revision(str(folder)) == (str(folder), None)


def test_the_error_for_a_missing_package_names_the_alternatives(
  items, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'sentence_transformers', None)

  with pytest.raises(UsageError) as caught:
    embed_items(EmbeddingConfig(), items)
  message = str(caught.value)
  assert '\n' not in message
  for word in ("pip install -e '.[text]'", 'tfidf-svd', 'precomputed'):
    assert word in message
