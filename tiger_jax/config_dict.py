"""From a ConfigDict to a `Config`, every name and type checked on the way.

Config files build an `ml_collections.ConfigDict` with `defaults()` and change
what differs; `parse` turns it into a `Config`. Nothing past `main` sees a
ConfigDict.
"""

import dataclasses
import difflib
import reprlib
from typing import Any, get_args, get_origin

import ml_collections

import tiger_jax
from tiger_jax.config import Config
from tiger_jax.config_checks import BEFORE
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import record
from tiger_jax.storage.record import Artefact

# Longer than any path.
_LONGEST = 4096
# Values are shown in errors, and may come from a file.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 200
_SHOWN.maxtuple = _SHOWN.maxlist = _SHOWN.maxdict = 20


def defaults() -> ml_collections.ConfigDict:
  """Returns every field at its default, for a config file to start from."""
  config = ml_collections.ConfigDict(dataclasses.asdict(Config()))
  return config.lock()


def parse(config: ml_collections.ConfigDict) -> Config:
  """Checks a ConfigDict and freezes it.

  Args:
    config: As a config file returns it, overrides applied.

  Returns:
    The same values as dataclasses.

  Raises:
    UsageError: A field is unknown, or its value is of the wrong type or out
      of range.
  """
  return from_json(config.to_dict())


def from_json(values: dict[str, Any]) -> Config:
  """Rebuilds a Config that was written with `dataclasses.asdict`.

  Raises:
    UsageError: A field is unknown, or its value is of the wrong type or out
      of range.
  """
  return _build(Config, values, 'config')


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
      f'{_SHOWN.repr(unknown[0])} of {path} is not a field of this version, '
      f'{tiger_jax.__version__}: use that version, or another --workdir'
    )
  try:
    return from_json(_with_missing(Config(), values))
  except UsageError as error:
    raise DataError(
      f'{path}, made by {record.writer(artefact.about)}: {error}; choose '
      'another --workdir'
    ) from error


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


def _build(cls: Any, values: dict[str, Any], path: str) -> Any:
  fields = {field.name: field for field in dataclasses.fields(cls)}
  kwargs: dict[str, Any] = {}
  for name, value in values.items():
    where = f'{path}.{name}'
    if name not in fields:
      near = difflib.get_close_matches(name, fields, n=1, cutoff=0)
      raise UsageError(f'{where} is not a field; did you mean {near[0]}?')
    kind = fields[name].type
    if dataclasses.is_dataclass(kind):
      if not isinstance(value, dict):
        raise UsageError(
          f'{where} is {_SHOWN.repr(value)}: it must be a section'
        )
      kwargs[name] = _build(kind, value, where)
    else:
      kwargs[name] = _convert(kind, value, where)
  try:
    return cls(**kwargs)
  except UsageError as error:
    raise UsageError(f'{path}.{error}') from error


def _convert(kind: Any, value: Any, where: str) -> Any:
  """Returns `value` as `kind`, where nothing is lost by it."""
  if get_origin(kind) is tuple and isinstance(value, list | tuple):
    return tuple(_convert(get_args(kind)[0], x, where) for x in value)
  if kind is float and type(value) is int:
    try:
      return float(value)
    except OverflowError as error:
      raise UsageError(f'{where} is too large') from error
  if type(value) is not kind:
    name = getattr(kind, '__name__', str(kind))
    raise UsageError(
      f'{where} is {_SHOWN.repr(value)}: it must be of type {name}'
    )
  # Errors of a wrong choice repeat it.
  if kind is str and len(value) > _LONGEST:
    raise UsageError(f'{where} is longer than {_LONGEST} characters')
  return value
