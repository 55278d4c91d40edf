"""The table of all kinds of datasets."""

from collections.abc import Callable
import dataclasses
import difflib
from pathlib import Path
import re
from typing import NamedTuple

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
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

# Stands for the path of a folder, which may be any.
_FOLDER = 'FOLDER'


class Source(NamedTuple):
  """A kind of dataset.

  A name is the kind, or the kind and a part after `/` or `:`, such as the
  category in `amazon2014/Beauty`.

  Attributes:
    names: The names of the datasets of this kind.
    files: Returns the local paths that `load` may read, existing or not. Its
      arguments are the part of the name and the settings.
    load: Returns the dataset. Its arguments are the part of the name, the
      settings, and the seed, which only generated data depend on.
  """

  names: tuple[str, ...]
  files: Callable[[str, DatasetConfig], list[Path]]
  load: Callable[[str, DatasetConfig, int], Dataset]


def find(name: str) -> tuple[Source, str]:
  """Returns the source of a dataset, and the part of its name.

  Raises:
    UsageError: There is no dataset of this name.
  """
  kind, _, part = _parts(name)
  source = SOURCES.get(kind)
  if source and _is_in(name, part, source):
    return source, part
  # The nearest kind has no dataset of this name, or there is no such kind.
  names = [x for known in SOURCES.values() for x in known.names]
  same_kind = source.names if source else names
  near = [x for x in names if x.startswith(name)]
  near += difflib.get_close_matches(name, same_kind, n=1, cutoff=0)
  raise UsageError(
    f'config.dataset.name is {name!r}: did you mean {near[0]!r}?'
  )


def _parts(name: str) -> tuple[str, str, str]:
  kind, separator, part = re.fullmatch(
    '([^/:]*)([/:]?)(.*)', name, re.DOTALL
  ).groups()  # type: ignore[union-attr]
  return kind, separator, part


def _is_in(name: str, part: str, source: Source) -> bool:
  template = source.names[0]
  if template.endswith(_FOLDER):
    return name == template.removesuffix(_FOLDER) + part and bool(part)
  return name in source.names


def _synthetic(unused_part: str, config: DatasetConfig, seed: int) -> Dataset:
  shop = synthetic.make(config.synthetic_users, seed)
  shop_counts = counts.without_drops(
    shop.num_users, shop.num_items, shop.num_interactions
  )
  return dataclasses.replace(shop, counts=shop_counts)


def _own_files(unused_part: str, config: DatasetConfig) -> list[Path]:
  folder = Path(config.source_dir)
  return own_files.candidates(folder, 'interactions', 'items')


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
    load=lambda part, config, seed: json_shops.load(shop, part, config),
  )


SOURCES = {
  'synthetic': Source(
    ('synthetic',), lambda part, config: [], _synthetic,
  ),
  'files': Source(
    ('files',), _own_files, lambda part, config, seed: own_files.load(config)
  ),
  'amazon2014': Source(
    tuple(f'amazon2014/{x}' for x in amazon2014.CATEGORIES),
    _amazon2014_files,
    lambda part, config, seed: amazon2014.load(part, config),
  ),
  'amazon2018': _json_shop('amazon2018', known_shops.AMAZON_2018),
  'amazon2023': _json_shop('amazon2023', known_shops.AMAZON_2023),
  'movielens': Source(
    tuple(f'movielens/{x}' for x in movielens.SIZES),
    _official_files(movielens.official),
    lambda part, config, seed: movielens.load(part, config),
  ),
  'recbole': Source(
    (f'recbole:{_FOLDER}',),
    lambda part, config: recbole.files(part, config.source_dir),
    lambda part, config, seed: recbole.load(part, config),
  ),
  'steam': _json_shop('steam', known_shops.STEAM),
  'yelp': _json_shop('yelp', known_shops.YELP),
}  # fmt: skip
