"""Reads item vectors that another program computed."""

from pathlib import Path

from jaxtyping import Float
import numpy as np

from tiger_jax.config import EmbeddingConfig
from tiger_jax.data import counts, item_text
from tiger_jax.data.dataset import Items
from tiger_jax.errors import DataError
from tiger_jax.storage import files
from tiger_jax.storage.arrays import mapped

# Enough for a hundred million ids.
_MAX_IDS_BYTES = 2**32


def load_vectors(
  config: EmbeddingConfig, items: Items
) -> Float[np.ndarray, 'items dim']:
  """Reads the vectors of items, in the precision of the file.

  `config.path` is a file of vectors. `config.ids_path` is a file with the item
  id of each vector. The vectors may be in any order, and some may belong to
  items that are not in `items`.

  Raises:
    DataError: A file is missing or damaged, or lacks items.
  """
  ids, vectors = read(config)
  row_of = {item_id: row for row, item_id in enumerate(ids)}
  missing = [item_id for item_id in items.ids if item_id not in row_of]
  if missing:
    hint = counts.hint(missing, row_of)
    raise DataError(
      f'{config.ids_path} lacks {len(missing)} of {len(items)} items, such as '
      f'{counts.first_ids(missing)}{f" ({hint})" if hint else ""}: add them, '
      f'and add their vectors to {config.path}'
    )
  return np.asarray(vectors[[row_of[item_id] for item_id in items.ids]])


def read(
  config: EmbeddingConfig,
) -> tuple[list[str], Float[np.ndarray, 'rows dim']]:
  """Returns the id of each vector, and the vectors as a memory map.

  Raises:
    DataError: A file is missing or damaged, the files do not belong together,
      or an id occurs twice.
  """
  vectors = _read_vectors(config.path)
  ids = _read_ids(config.ids_path)
  if len(vectors) != len(ids):
    raise DataError(
      f'{config.path} has {len(vectors)} rows, but {config.ids_path} has '
      f'{len(ids)} ids: write both from the same catalog'
    )
  row_of: dict[str, int] = {}
  repeats = [x for row, x in enumerate(ids) if row_of.setdefault(x, row) != row]
  if repeats:
    raise DataError(
      f'{config.ids_path} repeats {len(repeats)} ids, such as '
      f'{counts.first_ids(repeats)}: keep one entry for each id, and '
      f'remove the rows of the other entries from {config.path}'
    )
  return ids, vectors


def count_rows(config: EmbeddingConfig, items: Items) -> dict[str, int]:
  """Returns how many vectors the file has, and how many of them are used."""
  num_rows = len(_read_ids(config.ids_path))
  return {
    'vectors': num_rows,
    'used': len(items),
    'of_other_items': num_rows - len(items),
  }


def _read_vectors(path: str) -> Float[np.ndarray, 'rows dim']:
  if not Path(path).exists():
    raise DataError(
      f'{path} does not exist: set config.embedding.path to a .npy file of '
      'shape [items, dim]'
    )
  with files.explained(
    f'{path} cannot be read as .npy',
    'write one array of numbers to it with numpy.save',
  ):
    # Memory-mapped, so that only the rows of the dataset's items are read.
    vectors = mapped(Path(path))
  is_float = np.issubdtype(vectors.dtype, np.floating)
  if vectors.ndim != 2 or vectors.shape[1] == 0 or not is_float:
    raise DataError(
      f'{path} holds {vectors.dtype} of shape {list(vectors.shape)}: it must '
      'hold floating-point numbers of shape [items, dim]'
    )
  return vectors


def _read_ids(path: str) -> list[str]:
  if not Path(path).exists():
    raise DataError(
      f'{path} does not exist: set config.embedding.ids_path to a JSON list of '
      'item ids'
    )
  with files.explained(
    f'{path} cannot be read as JSON', 'write the item ids as one JSON list'
  ):
    ids = files.read_json(Path(path), _MAX_IDS_BYTES)
  if not isinstance(ids, list):
    raise DataError(
      f'{path} is not a list: write the item ids as one JSON list'
    )
  for position, item_id in enumerate(ids):
    if type(item_id) not in (str, int):
      raise DataError(
        f'{path} is not a list of item ids: entry {position + 1} is '
        f'{item_text.shown(item_id)}; it must be text or an integer'
      )
  # `own_files` converts ids in the same way.
  return [str(item_id).strip() for item_id in ids]
