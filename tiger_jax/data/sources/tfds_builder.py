"""The 5-core Amazon reviews of 2014 as a TFDS dataset.

The builder downloads the raw files or reads them from a folder, and writes the
dataset to the data folder of TFDS. It does not need TensorFlow:

  builder = Amazon2014(config='Beauty')
  builder.download_and_prepare()
  users = builder.as_data_source(split='users')
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tiger_jax.data.dataset import FIELDS
from tiger_jax.data.sources import amazon2014


class Amazon2014(tfds.core.GeneratorBasedBuilder):
  """A TFDS builder with the splits `users` (histories) and `items` (metadata).

  TFDS stores records in its own order: sort them by `row`. The field `items` of
  a user contains rows of the split `items`. All users and items of the reviews
  are kept, including items without metadata.
  """

  VERSION = tfds.core.Version('1.1.0')
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name=category, description=f'Category {category}, 5-core.'
    )
    for category in amazon2014.CATEGORIES
  ]

  def __init__(
    self,
    *,
    source_dir: str = '',
    # The default of TFDS, tfrecord, needs TensorFlow.
    file_format: Any = 'array_record',
    **kwargs: Any,
  ):
    """Creates a builder; an empty `source_dir` downloads the raw files."""
    self._source_dir = source_dir
    super().__init__(file_format=file_format, **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    # Both splits must have the same features, so each split leaves some empty.
    features = {
      'row': np.int32,
      'id': tfds.features.Text(),
      'has_metadata': np.bool_,
      **{name: tfds.features.Text() for name in FIELDS},
      'items': tfds.features.Tensor(shape=(None,), dtype=np.int32),
      'timestamps': tfds.features.Tensor(shape=(None,), dtype=np.int64),
    }
    return _Info(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(features),
      homepage='https://jmcauley.ucsd.edu/data/amazon/',
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Any]:
    # Both files are read completely before anything is written, because damage
    # may be detected only at the end of a file.
    raw = amazon2014.read(
      self.builder_config.name,
      self._source_dir,
      downloads=Path(dl_manager.download_dir),
    )
    return {
      'users': self._generate_examples(_users(raw)),
      'items': self._generate_examples(_items(raw)),
    }

  def _generate_examples(
    self, records: Iterator[dict[str, Any]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    empty = {
      'has_metadata': False,
      **dict.fromkeys(FIELDS, ''),
      'items': np.zeros(0, np.int32),
      'timestamps': np.zeros(0, np.int64),
    }
    for row, record in enumerate(records):
      yield row, empty | {'row': row} | record


class _Info(tfds.core.DatasetInfo):
  """Skips the look-up in Google's storage, which does not have this dataset."""

  def initialize_from_bucket(self) -> None:
    """Does nothing: the look-up would leave an empty temporary folder."""


def _users(raw: amazon2014.Category) -> Iterator[dict[str, Any]]:
  log, order = raw.log, raw.log.order()
  assert log.timestamps is not None
  stops = np.cumsum(np.bincount(log.users, minlength=len(log.user_ids)))
  for user_id, own in zip(
    log.user_ids, np.split(order, stops[:-1]), strict=True
  ):
    yield {
      'id': user_id,
      'items': log.items[own],
      'timestamps': log.timestamps[own],
    }


def _items(raw: amazon2014.Category) -> Iterator[dict[str, Any]]:
  texts = raw.texts
  places = {item_id: place for place, item_id in enumerate(texts.ids)}
  for item_id in raw.log.item_ids:
    place = places.get(item_id)
    record = {'id': item_id, 'has_metadata': place is not None}
    if place is not None:
      record |= {name: column[place] for name, column in texts.fields.items()}
    yield record
