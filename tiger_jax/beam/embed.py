"""Implements `embed`, which turns prepared items into vectors."""

from collections.abc import Sequence
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from tiger_jax.beam import folders, jobs, vectors
from tiger_jax.config import EmbeddingConfig
from tiger_jax.data.dataset import Items
from tiger_jax.data.files import shards
from tiger_jax.embedding import encoders
from tiger_jax.errors import DataError
from tiger_jax.storage import files, texts

# The number of items of a task if the encoder is a text model.
_NUM_ITEMS = 4096


def embed(
  config: EmbeddingConfig, prepared: Path, out: Path, flags: Sequence[str]
) -> tuple[int, int]:
  """Writes the vectors of all items to a folder, see `vectors`.

  A text model encodes each item on its own, so the items are divided among the
  workers. With any other encoder, one worker computes all vectors.

  Args:
    config: The encoder.
    prepared: The folder that `prepare` wrote.
    out: The folder to write, which must not exist.
    flags: The flags of the Beam runner.

  Returns:
    The number of vectors, and their width.

  Raises:
    UsageError: The folder exists, or the encoder cannot be used.
    DataError: `prepare` did not write the folder, or a file is missing or
      damaged.
    NumbersError: A vector is not finite.
    PeerError: A worker died.
  """
  folders.refuse_existing(out)
  if not shards.check(prepared):
    raise DataError(
      f'{prepared} has no {shards.NAME}: set config.dataset.source_dir to a '
      'folder that prepare wrote'
    )
  prepared = prepared.absolute()
  items = _items(prepared)
  encoders.check_encoder(config, items)
  size = _NUM_ITEMS if _reads_one_item(config) else len(items)
  starts = range(0, len(items), size)
  config = _absolute(config)
  with folders.replaced(out.absolute()) as (result, work):
    task = functools.partial(_encode, config, str(prepared), str(work))
    elements = [(start, start + size) for start in starts]
    parts, _ = jobs.run(flags, work, task, elements)
    vectors.write(result, [x['path'] for x in parts], items.ids)
    return len(items), parts[0]['dim']


def _absolute(config: EmbeddingConfig) -> EmbeddingConfig:
  """Makes the paths absolute, because workers may run in other folders."""
  names = ['path', 'ids_path']
  if Path(config.model).is_dir():
    names.append('model')
  paths = {name: getattr(config, name) for name in names}
  absolute = {name: os.path.abspath(x) for name, x in paths.items() if x}
  return dataclasses.replace(config, **absolute)


def _items(prepared: Path) -> Items:
  path = prepared / 'items' / 'part-00000.parquet'
  with files.explained(f'{path} is damaged', 'prepare the data again'):
    fields = texts.read(path)
    ids = fields.pop('item')
  return Items(ids, fields)


def _reads_one_item(config: EmbeddingConfig) -> bool:
  return config.encoder == encoders.USES_TEXT_MODEL


def _encode(
  config: EmbeddingConfig, prepared: str, work: str, part: tuple[int, int]
) -> jobs.Result:
  """Writes the vectors of a range of items."""
  items = _slice(prepared, *part)
  if _reads_one_item(config):
    encoded = _text_encoder(config)(items)
    encoders.refuse_not_finite(config, items, encoded)
  else:
    encoded = encoders.embed_items(config, items)
  path = Path(work) / f'{jobs.unique("vectors")}.npy'
  np.save(path, encoded)
  return {'path': str(path), 'dim': encoded.shape[1]}


def _slice(prepared: str, start: int, stop: int) -> Items:
  items = _cached_items(prepared)
  fields = {name: x[start:stop] for name, x in items.fields.items()}
  return Items(items.ids[start:stop], fields)


@functools.lru_cache(maxsize=1)
def _cached_items(prepared: str) -> Items:
  return _items(Path(prepared))


@functools.lru_cache(maxsize=1)
def _text_encoder(config: EmbeddingConfig) -> Any:
  """Returns the text model. Each worker loads it once."""
  return encoders.text_encoder(config, None)
