"""Reads configs of finished stages, and selects the fields of fingerprints."""

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

# The fields that no longer exist, each with the value that had no effect.
_RETIRED = {'train': {'learning_rates': []}}


def identity(section: Any, default: Any = None) -> dict[str, Any]:
  """Returns the fields of a section that differ from their defaults.

  Fingerprints are made from the result. A new field at its default therefore
  changes no fingerprint, and finished stages stay valid.

  If the default of a new field changes the behavior, declare the field with
  `checks.added_later`. The result then omits the former value instead of the
  default. Do not change a default in any other way: stages made with the old
  default would seem to be made with the new one.

  Args:
    section: A config, or a section of it.
    default: The section with the default values; None for those of the class.
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

  A field that is missing in the record gets its former value, see
  `former_values`.

  Args:
    artifact: The stage. Another version may have made it.
    check: A function that raises UsageError if the caller cannot use a config.

  Raises:
    DataError: The record has unknown fields or values, or `check` failed.
  """
  path = artifact.folder / record.NAME
  values = artifact.metadata.get('config')
  if values is None:
    raise DataError(
      f'{path} is damaged (it has no config): remove {artifact.folder} and run '
      'again'
    )
  if unknown := _unknown(Config(), _without_retired(values), 'config'):
    raise DataError(
      f'the run in {artifact.folder.parent} was made by '
      f'{record.writer(artifact.metadata)} of tiger_jax, and '
      f'{SHOWN.repr(unknown[0])} of {path} is not a field of this version, '
      f'{tiger_jax.__version__}: use that version, or another --workdir'
    )
  try:
    config = from_json(_with_missing(Config(), _without_retired(values)))
    check(config)
    return config
  except UsageError as error:
    raise DataError(
      f'{path}, made by {record.writer(artifact.metadata)}: {error}; choose '
      'another --workdir'
    ) from error


def parse_recorded(values: Any) -> Config:
  """Returns a config from its recorded fields, such as those of a bundle.

  A field that is missing gets its former value, see `former_values`.

  Raises:
    UsageError: A field is unknown, or its value is not valid.
  """
  values = _without_retired(values)
  if unknown := _unknown(Config(), values, 'config'):
    raise UsageError(
      f'{SHOWN.repr(unknown[0])} is not a field of version '
      f'{tiger_jax.__version__}'
    )
  return from_json(_with_missing(Config(), values))


def former_values() -> dict[str, Any]:
  """Returns the former value of every field.

  With the former value of a field, the code behaves as it did before the field
  was added. Retired fields are included, with the values that had no effect.
  """
  values = _with_missing(Config(), {})
  for section, fields in _RETIRED.items():
    values[section] |= fields
  return values


def _without_retired(values: dict[str, Any]) -> dict[str, Any]:
  """Removes retired fields from a recorded config if they had no effect."""
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
  """Returns the fields of a record that this version does not have."""
  unknown = []
  for name, value in values.items():
    known = getattr(default, name, None)
    if name not in {field.name for field in dataclasses.fields(default)}:
      unknown.append(f'{path}.{name}')
    elif dataclasses.is_dataclass(known) and isinstance(value, dict):
      unknown += _unknown(known, value, f'{path}.{name}')
  return unknown


def _with_missing(default: Any, values: dict[str, Any]) -> dict[str, Any]:
  """Adds the fields that a record lacks, at their former values."""
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
