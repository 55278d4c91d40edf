"""What one run of an experiment came to, as a small file of JSON."""

import math
from pathlib import Path
from typing import Any

from tiger_jax.errors import DataError
from tiger_jax.storage import files

SCHEMA = 1
_NOTHING = type(None)
_FIELDS: dict[str, type | tuple[type, ...]] = {
  'schema': int,
  'experiment': str,
  'dataset': str,
  'run': str,
  'order': int,
  'of_a_group': list,
  'columns': (list, _NOTHING),
  'command': str,
  'model': str,
  'device': str,
  'seeds': list,
  'embedding': str,
  'metrics': dict,
  'standard_error': (dict, _NOTHING),
  'collision_rate': (float, int, _NOTHING),
  'seconds': dict,
  'environment': dict,
  'config': dict,
  'fingerprint': str,
}


def read(path: Path) -> dict[str, Any]:
  """Reads the record `results/<experiment>/<dataset>/<run>.json`.

  Raises:
    DataError: It is damaged, of another schema, or of another folder.
  """
  try:
    record = files.read_json(path)
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
  wrong = _wrong_fields(record)
  if wrong:
    raise DataError(
      f'{path} has no valid {", ".join(wrong)}: remove it and run the '
      'experiment again'
    )
  folder = f'{record["experiment"]}/{record["dataset"]}'
  if path.parts[-3:-1] != (record['experiment'], record['dataset']):
    raise DataError(
      f'{path} is a record of {folder}: move it to the folder of that name'
    )
  return record


def _wrong_fields(record: dict[str, Any]) -> list[str]:
  """Returns the names of fields that are missing or of another type."""
  wrong = [
    name
    for name, kind in _FIELDS.items()
    if name not in record or not isinstance(record[name], kind)
  ]
  if 'metrics' not in wrong and 'test' not in record['metrics']:
    wrong.append('metrics.test')
  for name in {'metrics', 'standard_error'} - set(wrong):
    for split, values in (record[name] or {}).items():
      if not isinstance(values, dict) or not all(
        map(_is_number, values.values())
      ):
        wrong.append(f'{name}.{split}')
  return wrong


def _is_number(value: Any) -> bool:
  return type(value) in (int, float) and math.isfinite(value)


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
