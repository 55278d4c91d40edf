"""Writes and reads the configs in records, across versions of the code."""

import dataclasses
from typing import Any

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config.checks import BEFORE
from tiger_jax.config.config_dict import SHOWN, from_json
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import record
from tiger_jax.storage.record import Artefact


def to_json(section: Any) -> dict[str, Any]:
  """Returns a config, or a section, in the form of records and fingerprints.

  A field that was added later is omitted if it has its former value, see
  `former_values`. The runs of older versions therefore stay valid.
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

  A field that the record lacks gets its former value, see `former_values`.

  Args:
    artefact: The stage; an older or newer version may have made it.

  Raises:
    DataError: The record has fields or values that this version does not know.
  """
  path = artefact.folder / record.NAME
  values = artefact.about.get('config')
  if values is None:
    raise DataError(
      f'{path} is damaged (it has no config): remove {artefact.folder} and run '
      'again'
    )
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
  """Returns the former value of every field.

  With this value, the current version behaves as versions without the field.
  """
  return _with_missing(Config(), {})


def _unknown(default: Any, values: dict[str, Any], path: str) -> list[str]:
  """Returns the fields in a record that a config does not have."""
  unknown = []
  for name, value in values.items():
    known = getattr(default, name, None)
    if name not in {field.name for field in dataclasses.fields(default)}:
      unknown.append(f'{path}.{name}')
    elif dataclasses.is_dataclass(known) and isinstance(value, dict):
      unknown += _unknown(known, value, f'{path}.{name}')
  return unknown


def _with_missing(default: Any, values: dict[str, Any]) -> dict[str, Any]:
  """Adds the fields that the version of a record did not have."""
  completed = dict(values)
  for field in dataclasses.fields(default):
    value = getattr(default, field.name)
    if dataclasses.is_dataclass(value):
      section = values.get(field.name, {})
      if isinstance(section, dict):
        completed[field.name] = _with_missing(value, section)
    elif field.name not in values:
      completed[field.name] = field.metadata.get(BEFORE, value)
  return completed
