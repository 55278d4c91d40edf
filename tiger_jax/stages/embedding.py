"""The embedding stage: makes a vector from the text of every item."""

from pathlib import Path
from typing import Any

from jaxtyping import Float
import numpy as np

from tiger_jax.config import Config, EmbeddingConfig
from tiger_jax.data.dataset import Items
from tiger_jax.embedding import encoders, precomputed
from tiger_jax.storage import record
from tiger_jax.storage.arrays import mapped, write_array

_FILE = 'embeddings.npy'


def made_from(config: Config, items: str) -> list[Any]:
  """Returns the values that determine the vectors, for fingerprints.

  `items` is the fingerprint of the items.
  """
  c = config.embedding
  return [c.encoder, encoders.made_from(c), items]


def build(
  config: EmbeddingConfig, items: Items, folder: Path
) -> dict[str, Any]:
  """Saves the vectors. Returns counts of precomputed vectors, if any."""
  write_array(folder / _FILE, encoders.embed_items(config, items))
  if config.encoder != 'precomputed':
    return {}
  return {'vectors': precomputed.count_rows(config, items)}


def load(folder: Path) -> Float[np.ndarray, 'items dim']:
  """Opens the vectors as a memory map; raises DataError if damaged."""
  with record.damage(folder / _FILE):
    vectors = mapped(folder / _FILE)
    if vectors.ndim != 2 or vectors.dtype.kind != 'f':
      raise ValueError(f'it holds {vectors.dtype}{list(vectors.shape)}')
  return vectors


def encoder_name(config: EmbeddingConfig) -> str:
  """Returns the name of the encoder for reports."""
  if config.encoder == 'sentence-transformers':
    # The path of a local folder may be private, so only its name is returned.
    is_local = Path(config.model).is_dir()
    return Path(config.model).name if is_local else config.model
  if config.encoder == 'precomputed':
    return f'precomputed ({Path(config.path).name})'
  return config.encoder
