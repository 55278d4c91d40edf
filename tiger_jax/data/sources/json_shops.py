"""Reads datasets whose files have one record per line: Amazon, Steam and Yelp.

`known_shops` describes the files of each dataset.
"""

from collections.abc import Callable, Mapping, Sequence
import datetime
import functools
import html
from typing import Any, NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.sources import assembly, official_files, raw_lines
from tiger_jax.data.sources.archives import Member
from tiger_jax.data.sources.bad_rows import BadRows
from tiger_jax.data.sources.log_builder import (
  CLEAN,
  LogBuilder,
  TextsBuilder,
  wrong,
)
from tiger_jax.data.sources.official_files import Official

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_YEAR_10000 = 253_402_300_800  # Seconds since 1970.


class Time(NamedTuple):
  """The form of the times of a dataset.

  Attributes:
    read: Returns a time in seconds or milliseconds since 1970, or None.
    requirement: What a time must be, for messages.
  """

  read: Callable[[Any], float | None]
  requirement: str


class Shop(NamedTuple):
  """The files of a dataset, and the names of their fields.

  Attributes:
    official: Returns the files of a category: the events, and the items.
    user: The field of an event that holds the user.
    item: The field of an event that holds the item.
    rating: The field of an event that holds the rating; '' if there is none.
    time: The field of an event that holds the time.
    time_form: The form of the times.
    id: The field of an item that holds the id.
    texts: Returns the values of the text fields of an item.
    only_bought: Whether the catalog has only the items of the events. The item
      files of Amazon have many more items.
    categories: The names of the categories; () if there is only one.
    names_are_free: Whether users choose their ids, so that an id may contain
      any character.
    bad_share: The share of bad rows that the official files may have.
  """

  official: Callable[[str], Official]
  user: str
  item: str
  rating: str
  time: str
  time_form: Time
  id: str
  texts: Callable[[Mapping[Any, Any]], dict[str, Any]]
  only_bought: bool = False
  categories: tuple[str, ...] = ()
  names_are_free: bool = False
  bad_share: float = 0.0


def load(
  shop: Shop, category: str, config: DatasetConfig, text_columns: Sequence[str]
) -> Dataset:
  """Downloads or reads a dataset, see `assembly.assemble`.

  Args:
    shop: The description of the files.
    category: One of `shop.categories`; '' if there are none.
    config: The folder of the files, and the filters.
    text_columns: The names of the required texts of items. Each is one of
      `dataset.FIELDS` or a field of the records.

  Raises:
    DataError: A file is missing or damaged, or lacks required content.
  """
  files = official_files.find(shop.official(category), config.source_dir)
  share = max(config.max_bad_share, shop.bad_share)
  rows = {name: BadRows(share) for name in ('interactions', 'items')}
  with official_files.damage_removed(files[0]):
    events = _read_events(shop, config, files[0], rows['interactions'])
  log = events.log(str(files[0]))
  wanted = frozenset(log.item_ids) if shop.only_bought else None
  columns = tuple(dict.fromkeys((*FIELDS, *text_columns)))
  builder, fields = TextsBuilder(columns), FieldCounts()
  with official_files.damage_removed(files[1]):
    names = _read_texts(shop, files[1], rows['items'], wanted, builder, fields)
  rows['items'].check(str(files[1]))
  texts = builder.texts(str(files[1]), text_columns, names)
  dataset = assembly.assemble(config, log, texts, str(files[0]), str(files[1]))
  return assembly.with_counts(
    dataset,
    (),
    items={
      'read': rows['items'].counts.kept, 'repeated': builder.repeated,
    },
    fields=fields.fields,
    rows={name: bad.counts.as_json() for name, bad in rows.items()},
  )  # fmt: skip


def _read_events(
  shop: Shop, config: DatasetConfig, file: Member, bad: BadRows
) -> LogBuilder:
  with_ratings = bool(config.min_rating and shop.rating)
  builder = LogBuilder(bad, with_ratings)
  read_time, requirement = shop.time_form
  for record in raw_lines.read_member(file, bad.counts_of_lines):
    values, where = record.values, record.where
    time = read_time(values.get(shop.time))
    if time is None:
      bad.add(wrong(where, shop.time, values.get(shop.time), requirement))
      continue
    user = values.get(shop.user)
    if shop.names_are_free and isinstance(user, str):
      user = item_text.visible(user)
    rating = values.get(shop.rating) if with_ratings else None
    builder.add(where, user, values.get(shop.item), time, rating)
  return builder


def _read_texts(
  shop: Shop,
  file: Member,
  bad: BadRows,
  wanted: frozenset[str] | None,
  builder: TextsBuilder,
  fields: FieldCounts,
) -> list[str]:
  """Adds the wanted items to `builder`; returns the names of their fields."""
  extra = [name for name in builder.names if name not in FIELDS]
  names: set[Any] = set()
  for record in raw_lines.read_member(file, bad.counts_of_lines):
    values, where = record.values, record.where
    item_id = values.get(shop.id)
    if not isinstance(item_id, str) or not item_text.is_clean(item_id):
      bad.add(wrong(where, shop.id, item_id, CLEAN))
      continue
    bad.counts.keep()
    if wanted is not None and item_id not in wanted:
      continue
    names.update(values)
    short = where.rpartition('/')[2]
    texts = shop.texts(values) | {name: values.get(name) for name in extra}
    builder.add(
      item_id,
      {
        name: _plain(fields.read(name, texts.get(name), short))
        for name in builder.names
      },
    )
  return sorted(name for name in names if isinstance(name, str))


def _plain(text: str) -> str:
  """Replaces HTML entities, such as &amp;."""
  return item_text.plain(html.unescape(text)) if '&' in text else text


def _seconds(value: Any) -> float | None:
  return value if type(value) is int and 0 <= value < _YEAR_10000 else None


def _milliseconds(value: Any) -> float | None:
  is_time = type(value) is int and 0 <= value < _YEAR_10000 * 1000
  return value if is_time else None


@functools.lru_cache(2**16)
def _date_seconds(text: str) -> float | None:
  try:
    time = datetime.datetime.fromisoformat(text)
  except ValueError:
    return None
  if time.tzinfo is None:
    time = time.replace(tzinfo=datetime.UTC)
  return (time - _EPOCH).total_seconds()


def _date(value: Any) -> float | None:
  # Longer texts are not dates, and would fill the cache.
  is_short = isinstance(value, str) and len(value) <= 40
  return _date_seconds(value) if is_short else None


SECONDS = Time(_seconds, 'an integer, the seconds since 1970')
MILLISECONDS = Time(_milliseconds, 'an integer, the milliseconds since 1970')
DATE = Time(_date, 'a date such as 2016-03-09 or 2016-03-09 18:45:03')
