"""From a ConfigDict to a `Config`, every name and type checked on the way.

Config files build an `ml_collections.ConfigDict` with `defaults()` and change
what differs; `parse` turns it into a `Config`. Nothing past `main` sees a
ConfigDict.
"""

import dataclasses
import difflib
from typing import Any, get_args, get_origin

import ml_collections

from tiger_jax.config import Config
from tiger_jax.errors import UsageError


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
        raise UsageError(f'{where} is {value!r}: it must be a section')
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
    return float(value)
  if type(value) is not kind:
    name = getattr(kind, '__name__', str(kind))
    raise UsageError(f'{where} is {value!r}: it must be of type {name}')
  return value
