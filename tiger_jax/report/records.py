"""Reads the records of experiments: one small JSON file for each run."""

import math
from pathlib import Path
from typing import Any

from tiger_jax.errors import DataError
from tiger_jax.storage import files

SCHEMA = 1
_NONE = type(None)
_FIELDS: dict[str, type | tuple[type, ...]] = {
  'schema': int,
  'experiment': str,
  'dataset': str,
  'run': str,
  'order': int,
  'of_a_group': list,
  'columns': (list, _NONE),
  'command': str,
  'model': str,
  'device': str,
  'seeds': list,
  'embedding': str,
  'metrics': dict,
  'standard_error': (dict, _NONE),
  'collision_rate': (float, int, _NONE),
  'seconds': dict,
  'environment': dict,
  'config': dict,
  'fingerprint': str,
}


def read(path: Path) -> dict[str, Any]:
  """Reads the record `results/<experiment>/<dataset>/<run>.json`.

  Raises:
    DataError: The file is damaged, has another schema, or is in the wrong
      folder.
  """
  try:
    record = files.read_json(path)
    schema = record['schema']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DataError(
      f'{path} is not a record of a run ({type(error).__name__}: {error}): '
      'remove it and run the experiment again'
    ) from error
  if schema != SCHEMA:
    raise DataError(
      f'{path} has schema {schema!r}, but this version reads schema {SCHEMA}: '
      'remove it and run the experiment again'
    )
  if invalid := _invalid_fields(record):
    raise DataError(
      f'{path} has no valid {", ".join(invalid)}: remove it and run the '
      'experiment again'
    )
  folder = f'{record["experiment"]}/{record["dataset"]}'
  if path.parts[-3:-1] != (record['experiment'], record['dataset']):
    raise DataError(
      f'{path} is in the wrong folder: it is a record of {folder}, so move it '
      'there'
    )
  return record


def masked_metrics(record: dict[str, Any]) -> dict[str, float]:
  """Returns the test metrics of lists without the items of the history.

  The record of a run has them in `test_masked`. In other records, they are the
  metrics of `test` whose names begin with `masked_`.
  """
  prefix = 'masked_'
  return record['metrics'].get('test_masked') or {
    name.removeprefix(prefix): value
    for name, value in record['metrics']['test'].items()
    if name.startswith(prefix)
  }


def _invalid_fields(record: dict[str, Any]) -> list[str]:
  """Returns the names of fields that are missing or have a wrong type."""
  invalid = [
    name
    for name, field_type in _FIELDS.items()
    if name not in record or not isinstance(record[name], field_type)
  ]
  if 'metrics' not in invalid and 'test' not in record['metrics']:
    invalid.append('metrics.test')
  for name in {'metrics', 'standard_error'} - set(invalid):
    for split, values in (record[name] or {}).items():
      if not isinstance(values, dict) or not all(
        map(_is_number, values.values())
      ):
        invalid.append(f'{name}.{split}')
  return invalid


def _is_number(value: Any) -> bool:
  return type(value) in (int, float) and math.isfinite(value)


def read_all(folder: Path) -> list[dict[str, Any]]:
  """Reads all records below a folder, sorted by experiment, dataset and run.

  Raises:
    DataError: There is no record, or one is damaged or has another schema.
  """
  records = [read(path) for path in sorted(folder.glob('*/*/*.json'))]
  if not records:
    raise DataError(
      f'{folder} holds no results: copy <workdir>/results of an experiment '
      'there'
    )
  return records
