"""The atomic files of RecBole: NAME.inter, and optionally NAME.item.

A file has one row per line. Tabs separate the cells. The header gives the name
and the type of each column, as in `user_id:token`. Cells are never quoted.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import re

from tiger_jax.config import DatasetConfig
from tiger_jax.data import item_text
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.data.files import column_names, delimited
from tiger_jax.data.files.archives import Member
from tiger_jax.data.sources import text_shop
from tiger_jax.errors import DataError

_TYPES = ('token', 'token_seq', 'float', 'float_seq')
# The names in RecBole's own datasets that `column_names` lacks.
_NAMES = {
  'movie_title': 'title', 'movie_name': 'title', 'item_name': 'title',
  'class': 'categories', 'genre': 'categories',
}  # fmt: skip
_QUOTED = re.compile(r"""'([^']*)'(?=, |$)|"([^"]*)"(?=, |$)""")


def files(folder: str, source_dir: str) -> list[Path]:
  """Returns the files in a folder, relative to `source_dir`."""
  whole = Path(source_dir, folder)
  return sorted([*whole.glob('*.inter'), *whole.glob('*.item')])


def load(
  folder: str, config: DatasetConfig, text_columns: Sequence[str]
) -> Dataset:
  """Reads the files in a folder, relative to `config.source_dir`.

  Without an `.item` file, the ids of the items are their titles.

  Raises:
    DataError: A file is missing or damaged, or lacks required content.
  """
  whole = Path(config.source_dir, folder)
  found = sorted(whole.glob('*.inter'))
  if len(found) != 1:
    names = ', '.join(path.name for path in found[:3]) or 'none'
    problem = f'has {names}' if whole.is_dir() else 'does not exist'
    raise DataError(
      f'{whole} must hold one .inter file of RecBole, and {problem}: name the '
      'folder of the dataset, as in config.dataset.name=recbole:data/ml-1m'
    )
  columns = dataclasses.asdict(config.columns)
  optional = ('timestamp', 'rating') if config.min_rating else ('timestamp',)
  table, at, notes = _table(found[0], columns, ('user', 'item'), optional)
  events = text_shop.Events(
    table,
    user=at['user'],
    item=at['item'],
    time=at.get('timestamp', -1),
    rating=at.get('rating', -1),
    notes=notes,
  )
  items_file = found[0].with_suffix('.item')
  if not items_file.exists():
    return text_shop.load(config, events, None, text_columns)
  table, at, more = _table(items_file, columns, ('item',), FIELDS)
  events = events._replace(notes=[*notes, *more])
  types = [name.rpartition(':')[2] for name in table.names]
  item = at.pop('item')

  def texts(cells: list[str]) -> dict[str, str]:
    return {
      name: _tokens(cells[i])
      if name == 'categories' and types[i] == 'token_seq'
      else cells[i]
      for name, i in at.items()
    }

  items = text_shop.Items(table, item, texts)
  return text_shop.load(config, events, items, text_columns)


def _table(
  path: Path,
  named: dict[str, str],
  required: Sequence[str],
  optional: Sequence[str],
) -> tuple[text_shop.Table, dict[str, int], list[str]]:
  """Returns a file, the positions of its columns, and notes for the user."""
  file, split = Member(path), _split
  first = next(delimited.rows(file, split), (1, None))[1]
  header = [cell.rpartition(':') for cell in first or ()]
  if not header or any(kind not in _TYPES for _, _, kind in header):
    raise DataError(
      f'{path} begins with {item_text.shown(first)}: its first line must give '
      'the name and the type of each column, as in user_id:token, with tabs '
      'between them'
    )
  names = [
    name if name in named.values() else _NAMES.get(name, name)
    for name, _, _ in header
  ]
  columns = column_names.Columns(required, optional, named)
  positions, notes = columns.select(path, names)
  table = text_shop.Table(file, split, 'utf-8', tuple(first or ()))
  return table, positions, notes


def _split(line: str) -> list[str]:
  return line.split('\t')


def _tokens(text: str) -> str:
  """Returns a sequence of categories as text such as `A; B`.

  RecBole writes the categories of Amazon as `'A', 'B'`, those of Yelp as
  `A, B`, and others with spaces between them.
  """
  quoted = [first or second for first, second in _QUOTED.findall(text)]
  if quoted:
    return '; '.join(quoted)
  return '; '.join(text.split(', ') if ', ' in text else text.split())
