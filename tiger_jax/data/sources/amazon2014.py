"""The 5-core Amazon reviews of 2014, as a TFDS dataset and as a `Dataset`.

McAuley et al., Amazon product data, May 1996 to July 2014. TFDS downloads the
raw files and keeps them prepared; TensorFlow is not needed.
"""

import array
from collections.abc import Iterator
import contextlib
import dataclasses
import errno
import html
import io
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.sources import assembly, download, raw_lines
from tiger_jax.errors import DataError

CATEGORIES = (
  'Amazon_Instant_Video',
  'Apps_for_Android',
  'Automotive',
  'Baby',
  'Beauty',
  'Books',
  'CDs_and_Vinyl',
  'Cell_Phones_and_Accessories',
  'Clothing_Shoes_and_Jewelry',
  'Digital_Music',
  'Electronics',
  'Grocery_and_Gourmet_Food',
  'Health_and_Personal_Care',
  'Home_and_Kitchen',
  'Kindle_Store',
  'Movies_and_TV',
  'Musical_Instruments',
  'Office_Products',
  'Patio_Lawn_and_Garden',
  'Pet_Supplies',
  'Sports_and_Outdoors',
  'Tools_and_Home_Improvement',
  'Toys_and_Games',
  'Video_Games',
)
_SITE = 'https://snap.stanford.edu/data/amazon/productGraph/categoryFiles'


class Amazon2014(tfds.core.GeneratorBasedBuilder):
  """TFDS builder: split `users` holds the histories, `items` the metadata.

  Records are written in an order of TFDS's own: sort by `row`. What the two
  raw files say is kept as it is, items without metadata included, so that one
  preparation serves every setting of `DatasetConfig`.
  """

  VERSION = tfds.core.Version('1.1.0')
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(
      name=category, description=f'Category {category}, 5-core.'
    )
    for category in CATEGORIES
  ]

  def __init__(
    self,
    *,
    source_dir: str = '',
    # The default of TFDS, tfrecord, needs TensorFlow.
    file_format: Any = 'array_record',
    **kwargs: Any,
  ):
    """Sets the builder up.

    Args:
      source_dir: Folder of the raw files; empty downloads them.
      file_format: As in TFDS.
      **kwargs: As in TFDS.
    """
    self._source_dir = source_dir
    super().__init__(file_format=file_format, **kwargs)

  @property
  def raw_files(self) -> tuple[str, str]:
    """Paths or addresses of the reviews and of the metadata."""
    site = self._source_dir.rstrip('/') or _SITE
    reviews, metadata = raw_names(self.builder_config.name)
    return f'{site}/{reviews}', f'{site}/{metadata}'

  def _info(self) -> tfds.core.DatasetInfo:
    # One set of features must serve both splits, so each leaves some empty.
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
      # The counts of the metadata, which the records do not contain.
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Any]:
    if self._source_dir:
      reviews, metadata = map(Path, self.raw_files)
    else:
      cache = Path(dl_manager.download_dir) / 'tiger_jax_amazon2014'
      reviews, metadata = (download.get(url, cache) for url in self.raw_files)
    # Both files are read to their ends before anything is written: damage
    # may show only there.
    with self._unless_damaged(reviews):
      events = _read_reviews(reviews)
    with self._unless_damaged(metadata):
      catalogue, about = _read_metadata(metadata, set(events.item_ids))
    self.info.metadata.update(about)
    return {
      'users': self._generate_examples(_user_records(events)),
      'items': self._generate_examples(_item_records(events, catalogue)),
    }

  @contextlib.contextmanager
  def _unless_damaged(self, path: Path) -> Iterator[None]:
    """Removes a downloaded file if reading it shows that it is damaged."""
    try:
      yield
    except DataError as error:
      if self._source_dir:
        raise
      path.unlink(missing_ok=True)
      raise DataError(
        f'{error}; the damaged download is removed: run the same command again'
      ) from error

  def _generate_examples(
    self, records: Iterator[dict[str, Any]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for record in records:
      yield record['row'], record


class _Info(tfds.core.DatasetInfo):
  """Skips the look-up in Google's storage, which lacks this dataset."""

  def initialize_from_bucket(self) -> None:
    """Does nothing; TFDS would leave an empty temporary folder each time."""


def raw_names(category: str) -> tuple[str, str]:
  """Returns the names of a category's official files."""
  return f'reviews_{category}_5.json.gz', f'meta_{category}.json.gz'


def load(category: str, config: DatasetConfig, folder: Path) -> Dataset:
  """Downloads or reads one category.

  Args:
    category: One of `CATEGORIES`.
    config: The dataset section.
    folder: Where to prepare files of `config.source_dir`; what is downloaded
      goes where TFDS keeps its datasets, for the next run to find.

  Returns:
    The dataset, see `assembly.assemble`.

  Raises:
    DataError: A raw file is missing, damaged, or not what it should hold.
    OSError: The disk is full.
  """
  scratch = folder / 'tfds'
  try:
    return _load(category, config, scratch)
  finally:
    # This is a second copy of the data, which is not read again.
    shutil.rmtree(scratch, ignore_errors=True)


def _load(category: str, config: DatasetConfig, scratch: Path) -> Dataset:
  builder = Amazon2014(
    config=category,
    source_dir=config.source_dir,
    data_dir=str(scratch) if config.source_dir else None,
  )
  with contextlib.ExitStack() as stack:
    if config.source_dir:
      # Only a download takes long enough to be told about.
      tfds.disable_progress_bar()
      stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(_full_disk_named(builder.data_dir))
    builder.download_and_prepare()
  users = _sorted_records(builder, 'users')
  items = _sorted_records(builder, 'items')
  lengths = [len(user['items']) for user in users]
  events = assembly.Events(
    user_ids=[user['id'].decode() for user in users],
    item_ids=[item['id'].decode() for item in items],
    history=np.concatenate([user['items'] for user in users]),
    offsets=np.cumsum([0, *lengths]),
    timestamps=np.concatenate([user['timestamps'] for user in users]),
  )
  catalogue = {
    item['id'].decode(): {name: item[name].decode() for name in FIELDS}
    for item in items
    if item['has_metadata']
  }
  dataset = assembly.assemble(config, events, catalogue, *builder.raw_files)
  about = builder.info.metadata
  counted = dataset.counts | {'fields': about['fields']}
  counted['items'] = counted['items'] | about['items']
  return dataclasses.replace(dataset, counts=counted)


@contextlib.contextmanager
def _full_disk_named(folder: str) -> Iterator[None]:
  """Turns an error of TFDS for a full disk into one that names the folder."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    full = os.strerror(errno.ENOSPC)
    if getattr(error, 'errno', 0) != errno.ENOSPC and full not in str(error):
      raise
    raise OSError(errno.ENOSPC, full, folder) from error


def _sorted_records(
  builder: tfds.core.DatasetBuilder, split: str
) -> list[dict[str, Any]]:
  records: Any = builder.as_data_source(split=split)
  return sorted(records, key=lambda record: record['row'])


def _read_reviews(path: Path) -> assembly.Events:
  # Stores codes, not text: the ids of all events would take more memory.
  user_codes: dict[str, int] = {}
  item_codes: dict[str, int] = {}
  users, items, seconds = array.array('i'), array.array('i'), array.array('q')
  for record in raw_lines.read(path):
    user = raw_lines.required_text(record, 'reviewerID')
    users.append(user_codes.setdefault(user, len(user_codes)))
    item = raw_lines.required_text(record, 'asin')
    items.append(item_codes.setdefault(item, len(item_codes)))
    seconds.append(raw_lines.required_seconds(record, 'unixReviewTime'))
  if not users:
    raise DataError(f'{path} holds no reviews: download or copy it again')
  return assembly.Events.from_log(
    tuple(user_codes),
    np.asarray(users, np.int32),
    tuple(item_codes),
    np.asarray(items, np.int32),
    np.asarray(seconds).astype(np.int64),
  )


def _read_metadata(
  path: Path, wanted: set[str]
) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
  """Returns the text fields of all reviewed items, and counts."""
  catalogue: dict[str, dict[str, str]] = {}
  counted = FieldCounts()
  items = {'read': 0, 'repeated': 0}
  for record in raw_lines.read(path):
    item_id = raw_lines.required_text(record, 'asin')
    items['read'] += 1
    if item_id in wanted:
      items['repeated'] += item_id in catalogue
      catalogue[item_id] = _text_fields(record, counted)
  return catalogue, {'items': items, 'fields': counted.fields}


def _text_fields(
  record: raw_lines.Record, counted: FieldCounts
) -> dict[str, str]:
  where = Path(record.where).name
  texts = {
    name: counted.read(name, record.values.get(name), where) for name in FIELDS
  }
  # The release has the entities of the web pages it was taken from.
  return {
    name: item_text.plain(html.unescape(text)) for name, text in texts.items()
  }


def _user_records(events: assembly.Events) -> Iterator[dict[str, Any]]:
  for row, user_id in enumerate(events.user_ids):
    own = slice(events.offsets[row], events.offsets[row + 1])
    yield {
      'row': row,
      'id': user_id,
      'has_metadata': False,
      **dict.fromkeys(FIELDS, ''),
      'items': events.history[own],
      'timestamps': events.timestamps[own],
    }


def _item_records(
  events: assembly.Events, catalogue: dict[str, dict[str, str]]
) -> Iterator[dict[str, Any]]:
  for row, item_id in enumerate(events.item_ids):
    yield {
      'row': row,
      'id': item_id,
      'has_metadata': item_id in catalogue,
      **catalogue.get(item_id, dict.fromkeys(FIELDS, '')),
      'items': np.zeros(0, np.int32),
      'timestamps': np.zeros(0, np.int64),
    }
