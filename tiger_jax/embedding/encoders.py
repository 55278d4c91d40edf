"""The encoders: each makes a vector for every item of a catalogue."""

import os
from typing import Any

from jaxtyping import Float, Float32
import numpy as np

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data import counts, item_text
from tiger_jax.data.dataset import Items
from tiger_jax.embedding.precomputed import load_vectors
from tiger_jax.embedding.text import item_sentences
from tiger_jax.errors import NumbersError, UsageError
from tiger_jax.storage.fingerprints import file_digests


def embed_items(
  config: EmbeddingConfig, items: Items
) -> Float32[np.ndarray, 'items dim']:
  """Returns a vector per item, not normalized, from `config.encoder`.

  Raises:
    UsageError: The encoder is not installed, its model cannot be loaded, or
      a field it needs is missing or out of range.
    DataError: A precomputed file is missing, damaged, or of other items.
    NumbersError: A vector is not finite.
  """
  encode = {
    'sentence-transformers': _sentence_transformers,
    'tfidf-svd': _tfidf_svd,
    'precomputed': load_vectors,
  }[config.encoder]
  with np.errstate(over='ignore'):  # What overflows is reported below.
    vectors = encode(config, items).astype(np.float32)
  broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
  if broken.size:
    ids = counts.first_ids(items.ids[row] for row in broken)
    raise NumbersError(
      f'the encoder {config.encoder} gave {len(broken)} of {len(items)} items '
      f'a vector that is not finite, such as {ids}; look '
      'at its text and at the model or file the vector is from'
    )
  return vectors


def made_from(config: EmbeddingConfig) -> list[Any]:
  """Returns the inputs of the vectors except the items, for a fingerprint.

  For a local folder these are its files, for a model of the hub its name.
  """
  if config.encoder == 'tfidf-svd':
    return [config.dim]
  if config.encoder == 'precomputed':
    return file_digests(config.path, config.ids_path)
  return file_digests(config.model) or [config.model]


def _sentence_transformers(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Any model of that library, such as the paper's Sentence-T5."""
  others = 'or choose the encoder tfidf-svd or precomputed'
  try:
    from sentence_transformers import SentenceTransformer
  except ImportError as error:
    raise UsageError(
      "config.embedding.encoder 'sentence-transformers' cannot be imported "
      f"({_first_line(error)}): pip install -e '.[text]', {others}"
    ) from error
  name, revision = model_and_revision(config.model)
  try:
    model = SentenceTransformer(
      name,
      revision=revision,
      trust_remote_code=False,
      local_files_only=not _hub_answers(name, revision),
    )
  except Exception as error:  # Hub, network, parsing: they share no base.
    raise UsageError(
      f'config.embedding.model {config.model!r} cannot be loaded '
      f'({_first_line(error)}): name a model folder or a model of the hub, '
      f'{others}'
    ) from error
  return model.encode(
    item_sentences(items), normalize_embeddings=False, show_progress_bar=True
  )


def model_and_revision(model: str) -> tuple[str, str | None]:
  """Splits `config.embedding.model` at its last `@`.

  The second part, a commit, branch or tag of the hub, is None for a folder.
  """
  name, _, revision = model.rpartition('@')
  return (model, None) if os.path.isdir(model) or not name else (name, revision)


def _hub_answers(model: str, revision: str | None) -> bool:
  """Whether a model is one to ask the hub for, and the hub can be asked.

  Without this one question the library would repeat its own for a minute
  before it looks on the disk.
  """
  import huggingface_hub

  if os.path.isdir(model):
    return False
  try:
    huggingface_hub.model_info(model, revision=revision, timeout=10)
  except huggingface_hub.errors.HfHubHTTPError:
    pass  # An answer, if not a good one: the library words it better.
  except Exception:  # Whatever the network does; its errors share no base.
    return False
  return True


def _tfidf_svd(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Weighted word and word-pair counts, reduced to their main directions."""
  # The import takes over a second.
  from sklearn.decomposition import TruncatedSVD
  from sklearn.feature_extraction.text import TfidfVectorizer

  vectorizer = TfidfVectorizer(
    ngram_range=(1, 2),
    # Words of one letter count too: a size, a vitamin.
    token_pattern=r'\b\w+\b',
    sublinear_tf=True,
    dtype=np.float32,
  )
  try:
    counts = vectorizer.fit_transform(item_sentences(items))
  except ValueError as error:  # Its only reason is an empty vocabulary.
    raise UsageError(
      'config.embedding.encoder tfidf-svd: no item has a word in its text or '
      'its id; check the catalogue, or choose the encoder precomputed'
    ) from error
  if config.dim > min(counts.shape):
    raise UsageError(
      f'config.embedding.dim is {config.dim}: tfidf-svd can make at most '
      f'{min(counts.shape)} from {counts.shape[0]} items and '
      f'{counts.shape[1]} different words and word pairs'
    )
  return TruncatedSVD(config.dim, random_state=0).fit_transform(counts)


def _first_line(error: Exception) -> str:
  line = next(iter(str(error).splitlines()), type(error).__name__)
  return item_text.plain(line)[:300]
