"""Reads datasets whose files have one record per line: Amazon, Steam and Yelp.

`known_shops` describes the files of each dataset.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import html
import operator
from pathlib import Path
from typing import Any, NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.counts import FieldCounts
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.events import assembly, event_log, ids
from tiger_jax.data.events.item_table import ItemTable
from tiger_jax.data.events.log import Log
from tiger_jax.data.files import raw_lines
from tiger_jax.data.files.archives import Member
from tiger_jax.data.files.bad_rows import BadRows, wrong
from tiger_jax.data.sources import official_files
from tiger_jax.data.sources.official_files import Official


class Shop(NamedTuple):
  """The files of a dataset, and the names of their fields.

  Attributes:
    official: Returns the files of a category: the events, and the items.
    user: The field of the events with the user.
    item: The field of the events with the item.
    rating: The field of the events with the rating; '' if there is none.
    time: The field of the events with the time.
    id: The field of the items with the id.
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
  names = {'user': shop.user, 'item': shop.item, 'timestamp': shop.time}
  if config.min_rating and shop.rating:
    names['rating'] = shop.rating
  log, notes = read_events(
    files[0], names, rows['interactions'], names_are_free=shop.names_are_free
  )
  wanted = frozenset(log.item_ids) if shop.only_bought else None
  columns = tuple(dict.fromkeys((*FIELDS, *text_columns)))
  builder, fields = ItemTable(columns), FieldCounts()
  with official_files.damage_removed(files[1]):
    found = _read_texts(shop, files[1], rows['items'], wanted, builder, fields)
  rows['items'].check(str(files[1]))
  texts = builder.texts(str(files[1]), text_columns, found)
  dataset = assembly.assemble(config, log, texts, str(files[0]), str(files[1]))
  return assembly.with_counts(
    dataset,
    notes,
    items={
      'read': rows['items'].counts.kept, 'repeated': builder.repeated,
    },
    fields=fields.fields,
    rows={name: bad.counts.as_json() for name, bad in rows.items()},
  )  # fmt: skip


def read_events(
  file: Member,
  fields: Mapping[str, str],
  bad: BadRows,
  *,
  names_are_free: bool = False,
) -> tuple[Log, list[str]]:
  """Returns the events of a file of records, and notes for the user.

  Args:
    file: The file. If it is a damaged download, it is removed.
    fields: The field of each column: `user`, `item`, `timestamp` and possibly
      `rating`.
    bad: Counts the rows.
    names_are_free: See `Shop`.

  Raises:
    DataError: The file is missing or damaged; or too many rows are bad, or none
      is good.
  """
  path = Path(str(file))
  rows = _rows(file, tuple(fields.values()), bad, names_are_free)
  return event_log.read(event_log.blocks(path, rows, tuple(fields)), bad, path)


def _rows(
  file: Member, fields: Sequence[str], bad: BadRows, names_are_free: bool
) -> Iterator[tuple[Any, ...]]:
  """Yields the number of each line, and the values of the fields."""
  get = operator.itemgetter(*fields)
  with official_files.damage_removed(file):
    for values, _, line in raw_lines.read_member(file, bad):
      try:
        row = get(values)
      except KeyError:
        row = tuple(map(values.get, fields))
      if names_are_free and isinstance(row[0], str):
        row = item_text.visible(row[0]), *row[1:]
      yield line, *row


def _read_texts(
  shop: Shop,
  file: Member,
  bad: BadRows,
  wanted: frozenset[str] | None,
  builder: ItemTable,
  fields: FieldCounts,
) -> list[str]:
  """Adds the wanted items to `builder`; returns the names of their fields."""
  extra = [name for name in builder.names if name not in FIELDS]
  names: set[Any] = set()
  for record in raw_lines.read_member(file, bad):
    values = record.values
    item_id = ids.as_text(values.get(shop.id))
    if item_id is None:
      bad.add(
        wrong(record.where, shop.id, values.get(shop.id), ids.REQUIREMENT)
      )
      continue
    bad.counts.keep()
    if wanted is not None and item_id not in wanted:
      continue
    names.update(values)
    short = record.where.rpartition('/')[2]
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
