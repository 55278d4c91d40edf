"""Encoders, which return one vector for each item."""

from collections.abc import Callable
from importlib import util
import os
from typing import Any

from jaxtyping import Float, Float32
import numpy as np

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data import counts, item_text
from tiger_jax.data.dataset import Items
from tiger_jax.embedding.precomputed import load_vectors
from tiger_jax.embedding.text import check, item_sentences
from tiger_jax.errors import NumbersError, UsageError
from tiger_jax.storage.fingerprints import file_digests

# The encoder that loads the text model of the config.
USES_TEXT_MODEL = 'sentence-transformers'


def embed_items(
  config: EmbeddingConfig, items: Items
) -> Float32[np.ndarray, 'items dim']:
  """Returns one vector per item from `config.encoder`, without normalization.

  Raises:
    UsageError: The encoder is not installed, its model cannot be loaded, a
      required config field is missing or out of range, or the template names a
      column without text.
    DataError: A precomputed file is missing or damaged, or lacks items.
    NumbersError: A vector is not finite.
  """
  encode = {
    USES_TEXT_MODEL: _sentence_transformers,
    'tfidf-svd': _tfidf_svd,
    'precomputed': load_vectors,
  }[config.encoder]
  if config.encoder != 'precomputed':
    check(items, config.template)
  with np.errstate(over='ignore'):  # Overflows are reported below.
    vectors = encode(config, items).astype(np.float32)
  refuse_not_finite(config, items, vectors)
  return vectors


def refuse_not_finite(
  config: EmbeddingConfig,
  items: Items,
  vectors: Float32[np.ndarray, 'items dim'],
) -> None:
  """Raises NumbersError if the vector of an item is not finite."""
  bad_rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
  if bad_rows.size:
    ids = counts.first_ids(items.ids[row] for row in bad_rows)
    raise NumbersError(
      f'the encoder {config.encoder} returned a vector that is not finite for '
      f'{len(bad_rows)} of {len(items)} items, such as {ids}: check their text '
      'and the source of the vectors (a model or a file)'
    )


def made_from(config: EmbeddingConfig) -> list[Any]:
  """Returns the values that determine the vectors of items, for a fingerprint.

  A model in a local folder is identified by its files. A model of the Hugging
  Face Hub is identified by its name.
  """
  if config.encoder == 'precomputed':
    return file_digests(config.path, config.ids_path)
  # Earlier versions had no template.
  template = [config.template] if config.template else []
  if config.encoder == 'tfidf-svd':
    return [config.dim, *template]
  return [*(file_digests(config.model) or [config.model]), *template]


def check_encoder(config: EmbeddingConfig, items: Items) -> None:
  """Checks that the encoder can encode items. It loads no model.

  Raises:
    TigerError: The encoder is not installed, has too many dimensions, or lacks
      the vector of an item; or the template names a column without text.
  """
  if config.encoder != 'precomputed':
    check(items, config.template)
  if config.encoder == USES_TEXT_MODEL:
    if not util.find_spec('sentence_transformers'):
      raise UsageError(
        "config.embedding.encoder is 'sentence-transformers', which is not "
        "installed: pip install -e '.[text]', or choose the encoder tfidf-svd "
        'or precomputed'
      )
  elif config.encoder == 'precomputed':
    load_vectors(config, items)
  else:
    # If a few items have enough words, all items have enough words. The TF-IDF
    # of all items of a large shop takes minutes.
    few = _first_items(items, 4 * config.dim)
    if config.dim > min(_tfidf(config, few)[1].shape):
      _refuse_dim(config, _tfidf(config, items)[1].shape)


def fitting_dim(config: EmbeddingConfig, items: Items) -> int:
  """Returns a dimension of vectors that tfidf-svd can make from these items."""
  return _fitting_dim(_tfidf(config, items)[1].shape)


def _first_items(items: Items, number: int) -> Items:
  return Items(
    ids=items.ids[:number],
    fields={name: texts[:number] for name, texts in items.fields.items()},
  )


def can_encode_new_text(config: EmbeddingConfig, items: Items | None) -> bool:
  """Returns whether `text_encoder` can return an encoder."""
  return {
    USES_TEXT_MODEL: bool(config.model),
    'tfidf-svd': items is not None,
    'precomputed': False,
  }[config.encoder]


def text_encoder(
  config: EmbeddingConfig, items: Items | None
) -> Callable[[Items], Float32[np.ndarray, 'items dim']]:
  """Returns a function that encodes items which were not in the run.

  Args:
    config: The section `embedding` of the run.
    items: The items of the run; None if their text is not available. TF-IDF is
      fitted to them again, with the same result as in the run.

  Raises:
    UsageError: The encoder cannot encode new items, is not installed, or its
      model cannot be loaded.
  """
  if not can_encode_new_text(config, items):
    raise UsageError(
      f'the encoder {config.encoder!r} of this run cannot encode the text of '
      'new items: pass the vector of each item as vector='
    )
  if config.encoder == 'tfidf-svd':
    assert items is not None
    return _fit_tfidf_svd(config, items)[1]
  model = _load_sentence_transformer(config)

  def encode(items: Items) -> Float32[np.ndarray, 'items dim']:
    return model.encode(
      item_sentences(items, config.template),
      normalize_embeddings=False,
      show_progress_bar=False,
    ).astype(np.float32)

  return encode


def _sentence_transformers(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Encodes sentences with a model such as the paper's Sentence-T5."""
  return _load_sentence_transformer(config).encode(
    item_sentences(items, config.template),
    normalize_embeddings=False,
    show_progress_bar=True,
  )


def _load_sentence_transformer(config: EmbeddingConfig) -> Any:
  alternatives = 'or choose the encoder tfidf-svd or precomputed'
  try:
    from sentence_transformers import SentenceTransformer
  except ImportError as error:
    raise UsageError(
      "config.embedding.encoder 'sentence-transformers' cannot be imported "
      f"({_first_line(error)}): pip install -e '.[text]', {alternatives}"
    ) from error
  name, revision = model_and_revision(config.model)
  try:
    return SentenceTransformer(
      name,
      revision=revision,
      trust_remote_code=False,
      local_files_only=not _hub_answers(name, revision),
    )
  except Exception as error:  # Errors of the hub, the network and parsers.
    raise UsageError(
      f'config.embedding.model {config.model!r} cannot be loaded '
      f'({_first_line(error)}): name a folder or a Hugging Face model, '
      f'{alternatives}'
    ) from error


def model_and_revision(model: str) -> tuple[str, str | None]:
  """Splits `config.embedding.model` at the last `@`.

  The text after the `@` is the revision: a commit, branch or tag of the hub.
  The revision is None if there is no `@` or the model is a folder.
  """
  name, _, revision = model.rpartition('@')
  return (model, None) if os.path.isdir(model) or not name else (name, revision)


def _hub_answers(model: str, revision: str | None) -> bool:
  """Returns whether a model is not a folder and the hub can be reached.

  Without this check, if the hub cannot be reached, the library repeats its
  requests for a minute before it reads its cache on disk.
  """
  import huggingface_hub

  if os.path.isdir(model):
    return False
  try:
    huggingface_hub.model_info(model, revision=revision, timeout=10)
  except huggingface_hub.errors.HfHubHTTPError:
    pass  # The hub answered. The library has a better message for this error.
  except Exception:  # Network errors have no common base class.
    return False
  return True


def _tfidf_svd(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Returns TF-IDF weights of words and word pairs, reduced by an SVD."""
  return _fit_tfidf_svd(config, items)[0]


def _fit_tfidf_svd(
  config: EmbeddingConfig, items: Items
) -> tuple[
  Float[np.ndarray, 'items dim'],
  Callable[[Items], Float32[np.ndarray, 'n dim']],
]:
  """Returns the vectors of items, and a function that encodes other items."""
  # The import takes over a second.
  from sklearn.decomposition import TruncatedSVD

  vectorizer, weights = _tfidf(config, items)
  _refuse_dim(config, weights.shape)
  svd = TruncatedSVD(config.dim, random_state=0)
  vectors = svd.fit_transform(weights)

  def encode(items: Items) -> Float32[np.ndarray, 'n dim']:
    weights = vectorizer.transform(item_sentences(items, config.template))
    return svd.transform(weights).astype(np.float32)

  return vectors, encode


def _tfidf(config: EmbeddingConfig, items: Items) -> tuple[Any, Any]:
  """Returns a fitted vectorizer, and the TF-IDF weights of items."""
  from sklearn.feature_extraction.text import TfidfVectorizer

  vectorizer = TfidfVectorizer(
    ngram_range=(1, 2),
    # Keeps words of one letter, such as a size or a vitamin.
    token_pattern=r'\b\w+\b',
    sublinear_tf=True,
    dtype=np.float32,
  )
  try:
    sentences = item_sentences(items, config.template)
    return vectorizer, vectorizer.fit_transform(sentences)
  except ValueError as error:  # Raised only for an empty vocabulary.
    raise UsageError(
      'config.embedding.encoder is tfidf-svd, but no item has a word in its '
      'text or its id: check the catalog, or choose the encoder precomputed'
    ) from error


def _refuse_dim(config: EmbeddingConfig, shape: tuple[int, int]) -> None:
  if config.dim > min(shape):
    raise UsageError(
      f'config.embedding.dim is {config.dim}: tfidf-svd can make at most '
      f'{min(shape)} dimensions from {shape[0]} items and {shape[1]} different '
      f'words and word pairs; try --config.embedding.dim={_fitting_dim(shape)}'
    )


def _fitting_dim(shape: tuple[int, int]) -> int:
  return min(64, *shape) // 2 or 1


def _first_line(error: Exception) -> str:
  line = next(iter(str(error).splitlines()), type(error).__name__)
  return item_text.plain(line)[:300]
