"""Reads the configs in records, and makes their part of fingerprints."""

from collections.abc import Callable
import dataclasses
from typing import Any

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config.checks import BEFORE
from tiger_jax.config.config_dict import SHOWN, from_json
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import record
from tiger_jax.storage.record import Artifact

# Removed fields, at the values at which they had no effect.
_RETIRED = {'train': {'learning_rates': []}}


def identity(section: Any, default: Any = None) -> dict[str, Any]:
  """Returns the fields of a section that differ from their defaults.

  Fingerprints are made from it. A new field therefore changes no fingerprint
  while it has its default, and finished stages stay valid. A field whose
  default is not its former value has the former value in its metadata, see
  `checks.added_later`; it is then omitted at the former value. Do not change
  a default in any other way: stages that were made with the old one would
  count as made with the new one.

  Args:
    section: A config, or a section of it.
    default: What the values are compared with; None for the defaults of the
      class.
  """
  default = type(section)() if default is None else default
  values = {}
  for field in dataclasses.fields(section):
    value, base = getattr(section, field.name), getattr(default, field.name)
    if dataclasses.is_dataclass(value):
      if changes := identity(value, base):
        values[field.name] = changes
    elif value != field.metadata.get(BEFORE, base):
      values[field.name] = value
  return values


def config_of(
  artifact: Artifact, check: Callable[[Config], Any] = lambda config: None
) -> Config:
  """Returns the config that a stage was made with.

  A field that the record lacks gets its former value, see `former_values`.

  Args:
    artifact: The stage; an older or newer version may have made it.
    check: Raises UsageError for a config that the caller cannot use.

  Raises:
    DataError: The record has fields or values that this version does not know.
  """
  path = artifact.folder / record.NAME
  values = artifact.about.get('config')
  if values is None:
    raise DataError(
      f'{path} is damaged (it has no config): remove {artifact.folder} and run '
      'again'
    )
  if unknown := _unknown(Config(), _without_retired(values), 'config'):
    raise DataError(
      f'the run in {artifact.folder.parent} was made by '
      f'{record.writer(artifact.about)} of tiger_jax, and '
      f'{SHOWN.repr(unknown[0])} of {path} is not a field of this version, '
      f'{tiger_jax.__version__}: use that version, or another --workdir'
    )
  try:
    config = from_json(_with_missing(Config(), _without_retired(values)))
    check(config)
    return config
  except UsageError as error:
    raise DataError(
      f'{path}, made by {record.writer(artifact.about)}: {error}; choose '
      'another --workdir'
    ) from error


def former_values() -> dict[str, Any]:
  """Returns the former value of every field.

  With this value, the current version behaves as versions without the field.
  Retired fields are included: versions that had them did nothing at this value.
  """
  values = _with_missing(Config(), {})
  for section, fields in _RETIRED.items():
    values[section] |= fields
  return values


def _without_retired(values: dict[str, Any]) -> dict[str, Any]:
  """Removes retired fields from the config of a record, if they did nothing."""
  kept = dict(values)
  for section, fields in _RETIRED.items():
    if isinstance(kept.get(section), dict):
      kept[section] = {
        name: value
        for name, value in kept[section].items()
        if name not in fields or value != fields[name]
      }
  return kept


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
