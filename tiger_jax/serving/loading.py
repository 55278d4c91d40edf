"""Loads the model of a run or of a bundle."""

from pathlib import Path

from tiger_jax.serving.bundle_files import MANIFEST
from tiger_jax.serving.recommender import Recommender


def load(folder: Path) -> Recommender:
  """Loads a run or a bundle.

  Raises:
    TigerError: The run or the bundle is incomplete or damaged.
  """
  if (folder / MANIFEST).is_file():
    return Recommender.from_bundle(folder)
  return Recommender.from_workdir(folder)
