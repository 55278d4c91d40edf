"""Item vectors that were made elsewhere."""

import json

from jaxtyping import Float
import numpy as np

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.dataset import Items
from tiger_jax.errors import DataError, UsageError


def load_vectors(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Reads the vectors of a catalogue's items from two files.

  Args:
    config: `path` holds the vectors and `ids_path` names the item of each
      row, in any order; items not in the catalogue may be among them.
    items: The catalogue.

  Returns:
    The vectors in the order of the items, in the file's own precision.

  Raises:
    UsageError: A path is not set.
    DataError: A file is missing, damaged, or not about these items.
  """
  if not config.path or not config.ids_path:
    raise UsageError(
      'config.embedding.path and config.embedding.ids_path must both be set '
      'for the encoder precomputed: a .npy of [items, dim], and a JSON list '
      'naming the item of each row'
    )
  vectors = _read_vectors(config.path)
  ids = _read_ids(config.ids_path)
  if len(vectors) != len(ids):
    raise DataError(
      f'{config.path} has {len(vectors)} rows but {config.ids_path} names '
      f'{len(ids)} items: make both from the same catalogue'
    )
  row_of = {item_id: row for row, item_id in enumerate(ids)}
  if len(row_of) != len(ids):
    raise DataError(
      f'{config.ids_path} names {len(ids) - len(row_of)} items again: keep '
      'one row of each, here and in the vectors'
    )
  missing = [item_id for item_id in items.ids if item_id not in row_of]
  if missing:
    raise DataError(
      f'{config.ids_path} lacks {len(missing)} of {len(items)} items, '
      f'{missing[0]} the first: add them, here and in the vectors'
    )
  return np.asarray(vectors[[row_of[item_id] for item_id in items.ids]])


def _read_vectors(path: str) -> Float[np.ndarray, 'rows dim']:
  try:
    # Mapped, so that only the rows of this catalogue come into memory.
    vectors = np.lib.format.open_memmap(path, mode='r')
  except FileNotFoundError as error:
    raise DataError(
      f'{path} does not exist: let config.embedding.path name a .npy of '
      '[items, dim]'
    ) from error
  except (OSError, ValueError) as error:
    raise DataError(
      f'{path} cannot be read as .npy: write one array of numbers to it with '
      'numpy.save'
    ) from error
  floating = np.issubdtype(vectors.dtype, np.floating)
  if vectors.ndim != 2 or vectors.shape[1] == 0 or not floating:
    raise DataError(
      f'{path} holds {vectors.dtype} of shape {list(vectors.shape)}: it must '
      'hold floating-point numbers of shape [items, dim]'
    )
  return vectors


def _read_ids(path: str) -> list[str]:
  try:
    with open(path, encoding='utf-8') as file:
      ids = json.load(file)
  except FileNotFoundError as error:
    raise DataError(
      f'{path} does not exist: let config.embedding.ids_path name a JSON list '
      'of item ids'
    ) from error
  except (OSError, ValueError) as error:
    raise DataError(
      f'{path} cannot be read as JSON: write the item ids as one JSON list'
    ) from error
  if not isinstance(ids, list) or not all(isinstance(x, str) for x in ids):
    raise DataError(
      f'{path} is not a list of strings: write the item ids as one JSON list'
    )
  return ids
