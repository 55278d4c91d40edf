"""Loads the dataset that a config names."""

from collections.abc import Sequence
import dataclasses
import difflib
from pathlib import Path
from typing import Any

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.hold_out import without_purchases
from tiger_jax.data.sources import amazon2014, input_files, own_files, synthetic
from tiger_jax.data.sources.assembly import ITEM_ORDER
from tiger_jax.data.ties import shuffle_ties
from tiger_jax.errors import UsageError
from tiger_jax.storage.fingerprints import file_digests


def load_dataset(
  config: DatasetConfig, seed: int, text_columns: Sequence[str] = ('title',)
) -> Dataset:
  """Reads, downloads or generates a dataset.

  Args:
    config: The dataset.
    seed: The seed of the synthetic shop, of the order of events with equal
      times, and of the choice of unseen items.
    text_columns: The text columns that the embedding reads, see
      `own_files.load`.

  Raises:
    UsageError: There is no dataset with the name `config.name`.
    DataError: The source is missing, damaged, or lacks required content.
  """
  dataset = _load(config, seed, text_columns)
  if config.shuffle_ties:
    dataset = shuffle_ties(dataset, seed)
  if config.unseen_share:
    return without_purchases(dataset, config.unseen_share, seed)
  return dataset


def _load(
  config: DatasetConfig, seed: int, text_columns: Sequence[str]
) -> Dataset:
  if config.name == 'synthetic':
    shop = synthetic.make(config.synthetic_users, seed)
    shop_counts = counts.without_drops(
      shop.num_users, shop.num_items, shop.num_interactions
    )
    return dataclasses.replace(shop, counts=shop_counts)
  if config.name == 'files':
    return own_files.load(config, text_columns)
  check_name(config)
  return amazon2014.load(config.name.partition('/')[2], config)


def check_name(config: DatasetConfig) -> None:
  """Raises UsageError if there is no dataset of this name."""
  names = ['synthetic', 'files']
  names += [f'amazon2014/{name}' for name in amazon2014.CATEGORIES]
  if config.name not in names:
    near = [name for name in names if name.startswith(config.name)]
    near += difflib.get_close_matches(config.name, names, n=1, cutoff=0)
    raise UsageError(
      f'config.dataset.name is {config.name!r}: did you mean {near[0]!r}?'
    )


def made_from(config: DatasetConfig, seed: int) -> list[Any]:
  """Returns the values that determine the items, for a fingerprint.

  The result omits `unseen_share` and `shuffle_ties`, because these settings do
  not change the items.
  """
  if config.name == 'synthetic':
    return [config.name, config.synthetic_users, seed]
  flags = [config.drop_short_users, config.allow_missing_metadata]
  # Versions without `keep_repeats` kept repeats in a dataset `files`, so True
  # is omitted there. An Amazon dataset has no repeats, so the default False is
  # omitted. The fingerprints of these versions therefore stay valid.
  if config.keep_repeats != (config.name == 'files'):
    flags.append(config.keep_repeats)
  flags += _settings_of_rows(config)
  return [config.name, *flags, file_digests(*source_files(config)), ITEM_ORDER]


def _settings_of_rows(config: DatasetConfig) -> list[Any]:
  """Returns the settings that determine the rows, if they are not defaults."""
  default = DatasetConfig()
  return [
    {name: dataclasses.asdict(value) if name == 'columns' else value}
    for name in ('max_bad_share', 'columns')
    if (value := getattr(config, name)) != getattr(default, name)
  ]


def source_files(config: DatasetConfig) -> list[Path]:
  """Returns the local paths that `load_dataset` may read, existing or not."""
  folder = Path(config.source_dir)
  if config.name == 'files':
    return [
      path
      for table in ('interactions', 'items')
      for path in input_files.candidates(folder, table)
    ]
  if config.source_dir and config.name.startswith('amazon2014/'):
    category = config.name.partition('/')[2]
    return [folder / name for name in amazon2014.raw_names(category)]
  return []


def existing_files(config: DatasetConfig) -> list[Path]:
  """Returns the local files that `load_dataset` reads, without folders."""
  existing = []
  for path in source_files(config):
    existing += sorted(path.rglob('*')) if path.is_dir() else [path]
  return [path for path in existing if path.is_file()]
