"""What one run of an experiment came to, as a small file of JSON."""

import json
from pathlib import Path
from typing import Any

from tiger_jax.errors import DataError

SCHEMA = 1
_FIELDS = (
  'schema', 'experiment', 'dataset', 'run', 'order', 'of_a_group', 'columns',
  'command', 'model', 'device', 'seeds', 'embedding', 'metrics',
  'standard_error', 'collision_rate', 'seconds', 'environment', 'config',
  'fingerprint',
)  # fmt: skip


def read(path: Path) -> dict[str, Any]:
  """Reads a record.

  Args:
    path: `results/<experiment>/<dataset>/<run>.json`.

  Raises:
    DataError: It is damaged, or of another schema.
  """
  try:
    record = json.loads(path.read_text(encoding='utf-8'))
    schema = record['schema']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DataError(
      f'{path} is no record of a run ({type(error).__name__}: {error}): remove '
      'it and run the experiment again'
    ) from error
  if schema != SCHEMA:
    raise DataError(
      f'{path} has schema {schema!r}, and {SCHEMA} is read here: remove it and '
      'run the experiment again'
    )
  missing = [name for name in _FIELDS if name not in record]
  if missing:
    raise DataError(
      f'{path} lacks {", ".join(missing)}: remove it and run the experiment '
      'again'
    )
  return record


def read_all(folder: Path) -> list[dict[str, Any]]:
  """Reads every record below a folder, by experiment, dataset and run.

  Raises:
    DataError: There are none; one is damaged, or of another schema.
  """
  records = [read(path) for path in sorted(folder.glob('*/*/*.json'))]
  if not records:
    raise DataError(
      f'{folder} holds no results: copy those of an experiment there, '
      '<workdir>/results'
    )
  return records
