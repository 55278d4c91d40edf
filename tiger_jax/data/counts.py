"""How much of the raw data was read, used and dropped."""

from pathlib import Path
from typing import Any

from tiger_jax.errors import DataError
from tiger_jax.storage import files


def read(folder: Path) -> dict[str, Any]:
  """Returns the counts saved with a dataset; empty where there are none.

  Raises:
    DataError: The file is damaged.
  """
  path = folder / 'counts.json'
  try:
    counts = files.read_json(path)
    if not isinstance(counts, dict):
      raise ValueError('it is not an object')
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise DataError(
      f'{path} is damaged ({error}): remove {folder} and run again'
    ) from error
  return counts


def lines(counts: dict[str, Any]) -> list[str]:
  """Returns the counts as lines for a person."""
  return [f'{name}: {value}' for name, value in counts.items()]
