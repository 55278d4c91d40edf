"""The 5-core Amazon reviews of 2014.

McAuley et al., Amazon product data, May 1996 to July 2014.
"""

import array
from collections.abc import Iterator
import contextlib
import html
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.sources import assembly, download, raw_lines
from tiger_jax.data.sources.log import ItemTexts, Log
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


class Category(NamedTuple):
  """The content of the two raw files of a category.

  Attributes:
    log: All reviews.
    texts: The texts of each reviewed item that has metadata.
    counts: The counts `items` and `fields` of the metadata, see `data.counts`.
    files: The paths or addresses of the reviews and the metadata.
  """

  log: Log
  texts: ItemTexts
  counts: dict[str, Any]
  files: tuple[str, str]


def raw_names(category: str) -> tuple[str, str]:
  """Returns the names of a category's official files."""
  return f'reviews_{category}_5.json.gz', f'meta_{category}.json.gz'


def load(category: str, config: DatasetConfig) -> Dataset:
  """Downloads or reads one of `CATEGORIES`, see `assembly.assemble`.

  Raises:
    DataError: A raw file is missing or damaged, or lacks required content.
  """
  raw = read(category, config.source_dir)
  dataset = assembly.assemble(config, raw.log, raw.texts, *raw.files)
  return assembly.with_counts(dataset, (), **raw.counts)


def read(
  category: str,
  source_dir: str = '',
  *,
  downloads: Path | None = None,
  site: str = _SITE,
) -> Category:
  """Reads the raw files of one of `CATEGORIES`.

  Args:
    category: The name of the category, such as `Beauty`.
    source_dir: The folder of the raw files; '' to download the files.
    downloads: The folder for downloads; by default, the folder of TFDS.
    site: The address of the official files.

  Raises:
    DataError: A raw file is missing or damaged. A damaged download is removed.
    OSError: The disk is full.
  """
  reviews, metadata = (
    os.path.join(source_dir or site, name) for name in raw_names(category)
  )
  if source_dir:
    paths = Path(reviews), Path(metadata)
    unless_damaged = contextlib.nullcontext
  else:
    if downloads is None:
      import tensorflow_datasets as tfds  # This takes a second.

      downloads = Path(tfds.core.constants.DATA_DIR, 'downloads')
    folder = downloads / 'tiger_jax_amazon2014'
    paths = download.get(reviews, folder), download.get(metadata, folder)
    unless_damaged = _removed_if_damaged
  with unless_damaged(paths[0]):
    log = _read_reviews(paths[0])
  with unless_damaged(paths[1]):
    texts, counts = _read_metadata(paths[1], set(log.item_ids))
  return Category(log, texts, counts, (reviews, metadata))


@contextlib.contextmanager
def _removed_if_damaged(download: Path) -> Iterator[None]:
  try:
    yield
  except DataError as error:
    download.unlink(missing_ok=True)
    raise DataError(
      f'{error}; the damaged download is removed: run the same command again'
    ) from error


def _read_reviews(path: Path) -> Log:
  # Stores integer codes, because the text of all ids would take more memory.
  user_codes: dict[str, int] = {}
  item_codes: dict[str, int] = {}
  users, items, seconds = array.array('i'), array.array('i'), array.array('q')
  ratings = array.array('f')
  for record in raw_lines.read(path):
    user = raw_lines.required_text(record, 'reviewerID')
    users.append(user_codes.setdefault(user, len(user_codes)))
    item = raw_lines.required_text(record, 'asin')
    items.append(item_codes.setdefault(item, len(item_codes)))
    seconds.append(raw_lines.required_seconds(record, 'unixReviewTime'))
    ratings.append(raw_lines.rating(record, 'overall'))
  if not users:
    raise DataError(f'{path} holds no reviews: download or copy it again')
  return Log(
    tuple(user_codes),
    np.asarray(users, np.int32),
    tuple(item_codes),
    np.asarray(items, np.int32),
    np.asarray(seconds).astype(np.int64),
    np.asarray(ratings, np.float32),
  )


def _read_metadata(
  path: Path, wanted: set[str]
) -> tuple[ItemTexts, dict[str, Any]]:
  """Returns the texts of all reviewed items, and the counts."""
  catalog: dict[str, dict[str, str]] = {}
  field_counts = FieldCounts()
  items = {'read': 0, 'repeated': 0}
  for record in raw_lines.read(path):
    item_id = raw_lines.required_text(record, 'asin')
    items['read'] += 1
    if item_id in wanted:
      items['repeated'] += item_id in catalog
      catalog[item_id] = _text_fields(record, field_counts)
  fields = {name: [text[name] for text in catalog.values()] for name in FIELDS}
  texts = ItemTexts(tuple(catalog), fields)
  return texts, {'items': items, 'fields': field_counts.fields}


def _text_fields(
  record: raw_lines.Record, field_counts: FieldCounts
) -> dict[str, str]:
  where = Path(record.where).name
  texts = {
    name: field_counts.read(name, record.values.get(name), where)
    for name in FIELDS
  }
  # The texts contain HTML entities, such as &amp;.
  return {
    name: item_text.plain(html.unescape(text)) for name, text in texts.items()
  }
