"""The registry of all kinds of datasets."""

from collections.abc import Callable, Sequence
import dataclasses
import difflib
from pathlib import Path
import re
from typing import NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, training_shards
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.files import input_files
from tiger_jax.data.sources import (
  amazon2014,
  json_shops,
  known_shops,
  movielens,
  official_files,
  own_files,
  recbole,
  synthetic,
)
from tiger_jax.errors import UsageError

# A placeholder for the path of any folder.
_FOLDER = 'FOLDER'


class Request(NamedTuple):
  """A dataset to load.

  Attributes:
    part: The part of the name that follows the kind, such as a category.
    config: The settings.
    seed: The seed of generated data.
    text_columns: The names of the required texts of items.
  """

  part: str
  config: DatasetConfig
  seed: int
  text_columns: Sequence[str]


class Source(NamedTuple):
  """A kind of dataset.

  The name of a dataset is the kind, or the kind and a part after `/` or `:`, as
  in `amazon2014/Beauty`.

  Attributes:
    names: The names of the datasets of this kind.
    files: Returns the local paths that `load` may read, existing or not. Its
      arguments are the part of the name and the settings.
    load: Returns the dataset.
  """

  names: tuple[str, ...]
  files: Callable[[str, DatasetConfig], list[Path]]
  load: Callable[[Request], Dataset]


def find(name: str) -> tuple[Source, str]:
  """Returns the source of a dataset, and the part of its name.

  Raises:
    UsageError: There is no dataset of this name.
  """
  kind = re.split('[/:]', name, maxsplit=1)[0]
  part = name[len(kind) + 1 :]
  source = SOURCES.get(kind)
  if source and (name in source.names or _names_a_folder(name, part, source)):
    return source, part
  names = [x for known in SOURCES.values() for x in known.names]
  near = [x for x in names if x.startswith(name)]
  near += difflib.get_close_matches(
    name, source.names if source else names, n=1, cutoff=0
  )
  raise UsageError(
    f'config.dataset.name is {name!r}: did you mean {near[0]!r}?'
  )


def _names_a_folder(name: str, part: str, source: Source) -> bool:
  return bool(part) and source.names == (f'{name.removesuffix(part)}{_FOLDER}',)


def _synthetic(request: Request) -> Dataset:
  shop = synthetic.make(request.config.synthetic_users, request.seed)
  shop_counts = counts.without_drops(
    shop.num_users, shop.num_items, shop.num_interactions
  )
  return dataclasses.replace(shop, counts=shop_counts)


def _own_files(unused_part: str, config: DatasetConfig) -> list[Path]:
  folder = Path(config.source_dir)
  tables = [
    path
    for table in ('interactions', 'items')
    for path in input_files.candidates(folder, table)
  ]
  # The index determines the training histories.
  return [*tables, training_shards.index(folder)]


def _amazon2014_files(category: str, config: DatasetConfig) -> list[Path]:
  if not config.source_dir:
    return []
  folder = Path(config.source_dir)
  return [folder / name for name in amazon2014.raw_names(category)]


def _official_files(
  official: Callable[[str], official_files.Official],
) -> Callable[[str, DatasetConfig], list[Path]]:
  def files(part: str, config: DatasetConfig) -> list[Path]:
    if not config.source_dir:
      return []
    folder = Path(config.source_dir)
    return official_files.candidates(official(part), folder)

  return files


def _json_shop(kind: str, shop: json_shops.Shop) -> Source:
  return Source(
    names=tuple(f'{kind}/{x}' for x in shop.categories) or (kind,),
    files=_official_files(shop.official),
    load=lambda x: json_shops.load(shop, x.part, x.config, x.text_columns),
  )


SOURCES = {
  'synthetic': Source(('synthetic',), lambda part, config: [], _synthetic),
  'files': Source(
    ('files',), _own_files, lambda x: own_files.load(x.config, x.text_columns)
  ),
  'amazon2014': Source(
    tuple(f'amazon2014/{x}' for x in amazon2014.CATEGORIES),
    _amazon2014_files,
    lambda x: amazon2014.load(x.part, x.config),
  ),
  'amazon2018': _json_shop('amazon2018', known_shops.AMAZON_2018),
  'amazon2023': _json_shop('amazon2023', known_shops.AMAZON_2023),
  'movielens': Source(
    tuple(f'movielens/{x}' for x in movielens.SIZES),
    _official_files(movielens.official),
    lambda x: movielens.load(x.part, x.config, x.text_columns),
  ),
  'recbole': Source(
    (f'recbole:{_FOLDER}',),
    lambda part, config: recbole.files(part, config.source_dir),
    lambda x: recbole.load(x.part, x.config, x.text_columns),
  ),
  'steam': _json_shop('steam', known_shops.STEAM),
  'yelp': _json_shop('yelp', known_shops.YELP),
}
