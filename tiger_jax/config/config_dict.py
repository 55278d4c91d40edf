"""Converts a ConfigDict to a `Config`, and checks all names and types.

A config file gets an `ml_collections.ConfigDict` from `defaults()` and changes
its fields. `parse` converts the result to a `Config`.
"""

import dataclasses
import os
from pathlib import Path
import reprlib
from typing import Any, get_args, get_origin

import ml_collections

from tiger_jax.config import Config
from tiger_jax.config.checks import did_you_mean
from tiger_jax.errors import UsageError

# The maximum length of a text value, which is also the maximum length of a path
# on Linux.
_LONGEST = 4096
# Shortens values in error messages: values from a file may be long.
SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxother = 200
SHOWN.maxtuple = SHOWN.maxlist = SHOWN.maxdict = 20
# The fields that hold paths.
_PATHS = (
  'dataset.source_dir', 'dataset.exclude_users', 'dataset.exclude_items',
  'embedding.path', 'embedding.ids_path', 'embedding.model',
  'semantic_ids.shared_with',
)  # fmt: skip


def defaults() -> ml_collections.ConfigDict:
  """Returns the default config, which config files then change."""
  config = ml_collections.ConfigDict(dataclasses.asdict(Config()))
  return config.lock()


def parse(config: ml_collections.ConfigDict) -> Config:
  """Converts a ConfigDict to a `Config`.

  Raises:
    UsageError: A field is unknown, or its value has the wrong type or is out of
      range. The message names all wrong fields.
  """
  return from_json(config.to_dict())


def from_json(values: dict[str, Any]) -> Config:
  """Rebuilds a `Config` from the result of `dataclasses.asdict`.

  Raises:
    UsageError: A field is unknown, or its value has the wrong type or is out of
      range. The message names all wrong fields.
  """
  problems: list[str] = []
  config = _build(Config, values, 'config', problems)
  if problems:
    raise UsageError('; '.join(problems))
  return config


def expand(path: str, where: str) -> str:
  """Returns a path with `~` replaced by the home folder.

  Args:
    path: A path. Shells do not expand the `~` in `--flag=~/x`.
    where: The flag or field of the path, for error messages.

  Raises:
    UsageError: There is no such home folder, or the path has a NUL character.
  """
  if '\0' in path:
    raise UsageError(f'{where} is {SHOWN.repr(path)}: remove the NUL character')
  expanded = os.path.expanduser(path)
  if expanded.startswith('~'):
    raise UsageError(
      f'{where} is {path!r}, and there is no such home folder: name the whole '
      f'path, or ./{path} for a folder of that name'
    )
  return expanded


def as_path(value: Any, where: str) -> Path:
  """Returns an argument as a path with the home folder in place of `~`.

  Raises:
    UsageError: The argument is not a path, or `expand` cannot expand it.
  """
  if not isinstance(value, str | os.PathLike):
    raise UsageError(f'{where} is {SHOWN.repr(value)}: pass a path')
  return Path(expand(os.fspath(value), where))


def holds_path(field: str, value: Any) -> bool:
  """Returns whether a field, such as `embedding.path`, holds a path.

  The field may belong to an experiment, such as `base.embedding.path`.
  `embedding.model` may hold the name of a public model instead of a path.
  """
  if not value or not f'.{field}'.endswith(tuple(f'.{x}' for x in _PATHS)):
    return False
  is_model = field.endswith('embedding.model')
  return not is_model or str(value).startswith(('/', '.', '~'))


def _build(
  cls: Any, values: dict[str, Any], path: str, problems: list[str]
) -> Any:
  """Builds a section, or appends its errors to `problems` and returns None."""
  fields = {field.name: field for field in dataclasses.fields(cls)}
  kwargs: dict[str, Any] = {}
  num_before = len(problems)
  for name, value in values.items():
    where = f'{path}.{name}'
    try:
      if name not in fields:
        hint = did_you_mean(str(name), tuple(fields))
        raise UsageError(f'{where} is not a field; {hint}')
      field_type = fields[name].type
      if not dataclasses.is_dataclass(field_type):
        kwargs[name] = _convert(field_type, value, where)
      elif isinstance(value, dict):
        kwargs[name] = _build(field_type, value, where, problems)
      else:
        raise UsageError(
          f'{where} is {SHOWN.repr(value)}: it must be a section'
        )
    except UsageError as error:
      problems.append(str(error))
  if cls is Config and len(problems) > num_before:
    return None  # `Config` compares its sections, so all must be valid.
  try:
    return cls(**{k: v for k, v in kwargs.items() if v is not None})
  except UsageError as error:
    problems.append(f'{path}.{error}')
  return None


def _convert(field_type: Any, value: Any, where: str) -> Any:
  """Converts a list to a tuple and an int to a float, and checks the type."""
  if get_origin(field_type) is tuple and isinstance(value, list | tuple):
    return tuple(_convert(get_args(field_type)[0], x, where) for x in value)
  if field_type is float and type(value) is int:
    try:
      return float(value)
    except OverflowError as error:
      raise UsageError(f'{where} is too large') from error
  if type(value) is not field_type:
    name = getattr(field_type, '__name__', str(field_type))
    raise UsageError(
      f'{where} is {SHOWN.repr(value)}: it must be of type {name}'
    )
  # The length is limited, because the error message about a wrong choice shows
  # the whole value.
  if field_type is str and len(value) > _LONGEST:
    raise UsageError(f'{where} is longer than {_LONGEST} characters')
  is_path = where.removeprefix('config.') in _PATHS
  return expand(value, where) if is_path else value
