"""The MovieLens datasets of GroupLens.

Harper and Konstan, The MovieLens Datasets: History and Context, 2015.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.files import delimited
from tiger_jax.data.sources import official_files, text_shop

_PAGE = 'https://grouplens.org/datasets/movielens/'
_SITE = 'https://files.grouplens.org/datasets/movielens'


class _Form(NamedTuple):
  """The format of both files.

  Attributes:
    suffix: The suffix of the files.
    split: Divides a line into cells.
    encoding: The encoding.
    header: Whether the first line names the columns.
  """

  suffix: str
  split: Callable[[str], list[str]]
  encoding: str
  header: bool


_DAT = _Form('dat', lambda line: line.split('::'), 'latin-1', header=False)
_CSV = _Form('csv', delimited.split_csv, 'utf-8', header=True)
_FORMS = {'1m': _DAT, '20m': _CSV, '32m': _CSV}
SIZES = tuple(_FORMS)
_RATINGS = ('userId', 'movieId', 'rating', 'timestamp')
_MOVIES = ('movieId', 'title', 'genres')


def official(size: str) -> official_files.Official:
  """Returns the official files of one of `SIZES`."""
  folder, suffix = f'ml-{size}', _FORMS[size].suffix
  return official_files.Official(
    dataset=f'movielens/{size}',
    names=(f'{folder}/ratings.{suffix}', f'{folder}/movies.{suffix}'),
    page=_PAGE,
    urls=(f'{_SITE}/{folder}.zip',),
    archives=(f'{folder}.zip',),
  )


def load(
  size: str, config: DatasetConfig, text_columns: Sequence[str]
) -> Dataset:
  """Downloads or reads one of `SIZES`.

  The catalog has all movies. The title of a movie includes the year.

  Raises:
    DataError: A file is missing or damaged, or lacks required content.
  """
  form = _FORMS[size]
  files = official_files.find(official(size), config.source_dir)
  ratings, movies = (
    text_shop.Table(file, form.split, form.encoding, names, form.header)
    for file, names in zip(files, (_RATINGS, _MOVIES), strict=True)
  )
  events = text_shop.Events(ratings, user=0, item=1, rating=2, time=3)
  items = text_shop.Items(movies, item=0, texts=_texts)
  return text_shop.load(config, events, items, text_columns)


def _texts(cells: list[str]) -> dict[str, str]:
  genres = '' if cells[2] == '(no genres listed)' else cells[2]
  return {'title': cells[1], 'categories': '; '.join(genres.split('|'))}
