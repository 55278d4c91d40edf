"""Reads and writes item vectors: `embeddings.npy` and `ids.json` in a folder.

`embed` writes these files. `assign` and the encoder `precomputed` read them.
"""

from collections.abc import Sequence
import json
from pathlib import Path

from jaxtyping import Float
import numpy as np

from tiger_jax.config import EmbeddingConfig
from tiger_jax.embedding import precomputed
from tiger_jax.errors import DataError
from tiger_jax.storage import files

VECTORS, IDS = 'embeddings.npy', 'ids.json'


def write(folder: Path, parts: Sequence[str], ids: Sequence[str]) -> None:
  """Joins the vectors of several `.npy` files, one file at a time."""
  opened = [np.load(part, mmap_mode='r') for part in parts]
  shape = sum(len(x) for x in opened), opened[0].shape[1]
  vectors = np.lib.format.open_memmap(
    folder / VECTORS, mode='w+', dtype=np.float32, shape=shape
  )
  start = 0
  for part in opened:
    vectors[start : start + len(part)] = part
    start += len(part)
  vectors.flush()
  files.write(folder / IDS, json.dumps(list(ids)).encode())


def read(folder: Path) -> tuple[list[str], Float[np.ndarray, 'items dim']]:
  """Returns the ids, and the vectors as a memory map.

  Raises:
    DataError: A file is missing or damaged.
  """
  for name in (VECTORS, IDS):
    if not (folder / name).is_file():
      raise DataError(
        f'{folder} has no {name}: set --vectors to a folder with {VECTORS} and '
        f'{IDS}'
      )
  config = EmbeddingConfig(
    encoder='precomputed',
    path=str(folder / VECTORS),
    ids_path=str(folder / IDS),
  )
  return precomputed.read(config)
