"""The data stage: raw files become a dataset."""

from pathlib import Path
from typing import Any

from tiger_jax.config import Config
from tiger_jax.data import counts, loading
from tiger_jax.data.dataset import Dataset


def items_made_from(config: Config) -> list[Any]:
  """Returns what determines the items, for fingerprints."""
  return loading.made_from(config.dataset, config.seed)


def made_from(config: Config) -> list[Any]:
  """Returns what determines the dataset, for fingerprints."""
  c = config.dataset
  changes: list[Any] = []
  if c.unseen_share or c.shuffle_ties:
    changes = [c.unseen_share, c.shuffle_ties, config.seed]
  return items_made_from(config) + changes


def build(config: Config, folder: Path) -> dict[str, Any]:
  """Saves the dataset, and returns the counts of its source to record."""
  loading.load_dataset(config.dataset, config.seed).save(folder)
  counted = counts.read(folder)
  return {'counts': counted} if counted else {}


def load(folder: Path) -> Dataset:
  """Reads the dataset."""
  return Dataset.load(folder)
