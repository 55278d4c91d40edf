"""Loads the dataset of a config."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any

from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.events import filters
from tiger_jax.data.events.assembly import ITEM_ORDER
from tiger_jax.data.files import input_files
from tiger_jax.data.hold_out import without_purchases
from tiger_jax.data.sources import registry
from tiger_jax.data.ties import shuffle_ties
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
  source, part = registry.find(config.name)
  request = registry.Request(part, config, seed, text_columns)
  dataset = source.load(request)
  if config.shuffle_ties:
    dataset = shuffle_ties(dataset, seed)
  if config.unseen_share:
    return without_purchases(dataset, config.unseen_share, seed)
  return dataset


def check_name(config: DatasetConfig) -> None:
  """Raises UsageError if there is no dataset of this name."""
  registry.find(config.name)


def made_from(config: DatasetConfig, seed: int) -> list[Any]:
  """Returns the values that determine the items, for a fingerprint.

  The result omits `unseen_share` and `shuffle_ties`, because these settings do
  not change the items.
  """
  if config.name == 'synthetic':
    return [config.name, config.synthetic_users, seed]
  flags: list[Any] = [config.drop_short_users, config.allow_missing_metadata]
  # Versions without `keep_repeats` kept repeats in `files` datasets, so True is
  # omitted for them. Amazon datasets have no repeats, so the default False is
  # omitted for them. The fingerprints of these versions therefore stay valid.
  if config.keep_repeats != (config.name == 'files'):
    flags.append(config.keep_repeats)
  flags += _settings_of_rows(config)
  if settings := filters.made_from(config):
    flags.append(settings)
  return [config.name, *flags, file_digests(*source_files(config)), ITEM_ORDER]


def _settings_of_rows(config: DatasetConfig) -> list[Any]:
  """Returns the settings that determine the rows, without default values."""
  default = DatasetConfig()
  return [
    {name: dataclasses.asdict(value) if name == 'columns' else value}
    for name in ('max_bad_share', 'columns')
    if (value := getattr(config, name)) != getattr(default, name)
  ]


def source_files(config: DatasetConfig) -> list[Path]:
  """Returns the local paths that `load_dataset` may read, existing or not."""
  source, part = registry.find(config.name)
  return source.files(part, config)


def existing_files(config: DatasetConfig) -> list[Path]:
  """Returns the local files that `load_dataset` reads, without folders."""
  existing = []
  for path in source_files(config):
    existing += (
      sorted(path.rglob('*'), key=input_files.natural_key)
      if path.is_dir()
      else [path]
    )
  return [path for path in existing if path.is_file()]
