"""Configs as runs record them, possibly by another version of the code."""

import dataclasses
from typing import Any

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config_checks import BEFORE
from tiger_jax.config_dict import SHOWN, from_json
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import record
from tiger_jax.storage.record import Artefact


def to_json(section: Any) -> dict[str, Any]:
  """Returns a config, or a section, as records and fingerprints have it.

  A field that was added later is omitted where it has the value that older
  versions behaved as, so that their runs stay valid.
  """
  values = {}
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      value = to_json(value)
    elif BEFORE in field.metadata and value == field.metadata[BEFORE]:
      continue
    values[field.name] = value
  return values


def config_of(artefact: Artefact) -> Config:
  """Returns the config that a stage was made with.

  Fields that were added since have the value that older versions behaved as.

  Args:
    artefact: The stage; an older or newer version may have made it.

  Raises:
    DataError: It has fields or values that this version does not know.
  """
  path = artefact.folder / record.NAME
  values = artefact.about.get('config', {})
  if unknown := _unknown(Config(), values, 'config'):
    raise DataError(
      f'the run in {artefact.folder.parent} was made by '
      f'{record.writer(artefact.about)} of tiger_jax, and '
      f'{SHOWN.repr(unknown[0])} of {path} is not a field of this version, '
      f'{tiger_jax.__version__}: use that version, or another --workdir'
    )
  try:
    return from_json(_with_missing(Config(), values))
  except UsageError as error:
    raise DataError(
      f'{path}, made by {record.writer(artefact.about)}: {error}; choose '
      'another --workdir'
    ) from error


def former_values() -> dict[str, Any]:
  """Returns the value of every field that versions without it behaved as."""
  return _with_missing(Config(), {})


def _unknown(default: Any, values: dict[str, Any], path: str) -> list[str]:
  """Returns the fields in a record that a config does not have."""
  found = []
  for name, value in values.items():
    known = getattr(default, name, None)
    if name not in {field.name for field in dataclasses.fields(default)}:
      found.append(f'{path}.{name}')
    elif dataclasses.is_dataclass(known) and isinstance(value, dict):
      found += _unknown(known, value, f'{path}.{name}')
  return found


def _with_missing(default: Any, values: dict[str, Any]) -> dict[str, Any]:
  """Returns a record with the fields that its version did not have."""
  filled = dict(values)
  for field in dataclasses.fields(default):
    value = getattr(default, field.name)
    if dataclasses.is_dataclass(value):
      section = values.get(field.name, {})
      if isinstance(section, dict):
        filled[field.name] = _with_missing(value, section)
    elif field.name not in values:
      filled[field.name] = field.metadata.get(BEFORE, value)
  return filled
