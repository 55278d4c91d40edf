"""The data stage: makes a dataset from raw files."""

from pathlib import Path
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data import counts, loading
from tiger_jax.data.dataset import FIELDS, Dataset
from tiger_jax.embedding import text


def items_made_from(config: Config) -> list[Any]:
  """Returns the values that determine the items, for fingerprints."""
  made_from = loading.made_from(config.dataset, config.seed)
  # The fields are always read; further columns only if the template needs them.
  more = [x for x in text.columns(config.embedding.template) if x not in FIELDS]
  return [*made_from, {'text_columns': more}] if more else made_from


def made_from(config: Config) -> list[Any]:
  """Returns the values that determine the dataset, for fingerprints."""
  c = config.dataset
  history_settings: list[Any] = []
  if c.unseen_share or c.shuffle_ties:
    history_settings = [c.unseen_share, c.shuffle_ties, config.seed]
  return items_made_from(config) + history_settings


def build(config: Config, folder: Path) -> dict[str, Any]:
  """Saves the dataset. Returns the counts of the raw data, for the record."""
  columns = text.columns(config.embedding.template)
  loading.load_dataset(config.dataset, config.seed, columns).save(folder)
  source_counts = counts.read(folder)
  return {'counts': source_counts} if source_counts else {}


def load(folder: Path) -> Dataset:
  """Reads the dataset."""
  return Dataset.load(folder)
