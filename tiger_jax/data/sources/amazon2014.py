"""The 5-core Amazon reviews of 2014.

McAuley et al., Amazon product data, May 1996 to July 2014.
"""

import html
import os
from pathlib import Path
from typing import Any, NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.events import assembly, ids
from tiger_jax.data.events.log import ItemTexts, Log
from tiger_jax.data.files import raw_lines
from tiger_jax.data.files.archives import Member
from tiger_jax.data.files.bad_rows import BadRows, wrong
from tiger_jax.data.sources import download, json_shops, official_files

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
  raw = read(
    category,
    config.source_dir,
    max_bad_share=config.max_bad_share,
    with_ratings=bool(config.min_rating),
  )
  dataset = assembly.assemble(config, raw.log, raw.texts, *raw.files)
  return assembly.with_counts(dataset, (), **raw.counts)


def read(
  category: str,
  source_dir: str = '',
  *,
  downloads: Path | None = None,
  site: str = _SITE,
  max_bad_share: float = 0.0,
  with_ratings: bool = False,
) -> Category:
  """Reads the raw files of one of `CATEGORIES`.

  Args:
    category: The name of the category, such as `Beauty`.
    source_dir: The folder of the raw files; '' to download the files.
    downloads: The folder for downloads; by default, the folder of TFDS.
    site: The address of the official files.
    max_bad_share: See `DatasetConfig.max_bad_share`.
    with_ratings: Whether to read the ratings.

  Raises:
    DataError: A raw file is missing or damaged. A damaged download is removed.
    OSError: The disk is full.
  """
  reviews, metadata = (
    os.path.join(source_dir or site, name) for name in raw_names(category)
  )
  if source_dir:
    paths = Path(reviews), Path(metadata)
  else:
    folder = official_files.downloads('amazon2014', downloads)
    paths = download.get(reviews, folder), download.get(metadata, folder)
  files = [Member(path, is_download=not source_dir) for path in paths]
  bad = {name: BadRows(max_bad_share) for name in ('interactions', 'items')}
  fields = {'user': 'reviewerID', 'item': 'asin', 'timestamp': 'unixReviewTime'}
  if with_ratings:
    fields['rating'] = 'overall'
  log, _ = json_shops.read_events(files[0], fields, bad['interactions'])
  with official_files.damage_removed(files[1]):
    texts, counts = _read_metadata(paths[1], set(log.item_ids), bad['items'])
  bad['items'].check(metadata)
  counts['rows'] = {name: x.counts.as_json() for name, x in bad.items()}
  return Category(log, texts, counts, (reviews, metadata))


def _read_metadata(
  path: Path, wanted: set[str], bad: BadRows
) -> tuple[ItemTexts, dict[str, Any]]:
  """Returns the texts of all reviewed items, and the counts."""
  catalog: dict[str, dict[str, str]] = {}
  field_counts = FieldCounts()
  items = {'read': 0, 'repeated': 0}
  for record in raw_lines.read(path, bad):
    value = record.values.get('asin')
    item_id = ids.as_text(value)
    if item_id is None:
      bad.add(wrong(record.where, 'item', value, ids.REQUIREMENT))
      continue
    items['read'] += 1
    if item_id in wanted:
      items['repeated'] += item_id in catalog
      catalog[item_id] = _text_fields(record, field_counts)
  bad.counts.keep(items['read'])
  fields = {name: [text[name] for text in catalog.values()] for name in FIELDS}
  texts = ItemTexts(tuple(catalog), fields)
  return texts, {'items': items, 'fields': field_counts.fields}


def _text_fields(
  record: raw_lines.Record, field_counts: FieldCounts
) -> dict[str, str]:
  where = os.path.basename(record.where)
  texts = {
    name: field_counts.read(name, record.values.get(name), where)
    for name in FIELDS
  }
  # The texts contain HTML entities, such as &amp;.
  return {
    name: item_text.plain(html.unescape(text)) if '&' in text else text
    for name, text in texts.items()
  }
