"""From a ConfigDict to a `Config`, every name and type checked on the way.

Config files build an `ml_collections.ConfigDict` with `defaults()` and change
what differs; `parse` turns it into a `Config`. Nothing past `main` sees a
ConfigDict.
"""

import dataclasses
import os
import reprlib
from typing import Any, get_args, get_origin

import ml_collections

from tiger_jax.config import Config
from tiger_jax.config.checks import did_you_mean
from tiger_jax.errors import UsageError

# Longer than any path.
_LONGEST = 4096
# Shortens values in error messages, because they may come from a file.
SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxother = 200
SHOWN.maxtuple = SHOWN.maxlist = SHOWN.maxdict = 20
# The fields that are paths.
_PATHS = (
  'config.dataset.source_dir', 'config.embedding.path',
  'config.embedding.ids_path', 'config.embedding.model',
  'config.semantic_ids.shared_with',
)  # fmt: skip


def defaults() -> ml_collections.ConfigDict:
  """Returns every field at its default, for a config file to start from."""
  config = ml_collections.ConfigDict(dataclasses.asdict(Config()))
  return config.lock()


def parse(config: ml_collections.ConfigDict) -> Config:
  """Checks a ConfigDict and freezes it.

  Args:
    config: The result of a config file, with overrides applied.

  Returns:
    The same values as dataclasses.

  Raises:
    UsageError: A field is unknown, or its value is of the wrong type or out
      of range. All of them are named.
  """
  return from_json(config.to_dict())


def from_json(values: dict[str, Any]) -> Config:
  """Rebuilds a Config that was written with `dataclasses.asdict`.

  Raises:
    UsageError: A field is unknown, or its value is of the wrong type or out
      of range. All of them are named.
  """
  problems: list[str] = []
  config = _build(Config, values, 'config', problems)
  if problems:
    raise UsageError('; '.join(problems))
  return config


def expand(path: str, where: str) -> str:
  """Returns a path with `~` replaced by the home folder.

  Args:
    path: The path as typed; shells do not expand the `~` in `--flag=~/x`.
    where: The name of the setting, for error messages.

  Raises:
    UsageError: The home folder is not known, or the path has a NUL character.
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


def _build(
  cls: Any, values: dict[str, Any], path: str, problems: list[str]
) -> Any:
  """Returns a section, or appends what is wrong with it to `problems`."""
  fields = {field.name: field for field in dataclasses.fields(cls)}
  kwargs: dict[str, Any] = {}
  num_before = len(problems)
  for name, value in values.items():
    where = f'{path}.{name}'
    try:
      if name not in fields:
        hint = did_you_mean(name, tuple(fields))
        raise UsageError(f'{where} is not a field; {hint}')
      kind = fields[name].type
      if not dataclasses.is_dataclass(kind):
        kwargs[name] = _convert(kind, value, where)
      elif isinstance(value, dict):
        kwargs[name] = _build(kind, value, where, problems)
      else:
        raise UsageError(
          f'{where} is {SHOWN.repr(value)}: it must be a section'
        )
    except UsageError as error:
      problems.append(str(error))
  if cls is Config and len(problems) > num_before:
    return None  # Checks across sections need valid sections.
  try:
    return cls(**{k: v for k, v in kwargs.items() if v is not None})
  except UsageError as error:
    problems.append(f'{path}.{error}')
  return None


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
      f'{where} is {SHOWN.repr(value)}: it must be of type {name}'
    )
  # The error of a wrong choice shows the value.
  if kind is str and len(value) > _LONGEST:
    raise UsageError(f'{where} is longer than {_LONGEST} characters')
  return expand(value, where) if where in _PATHS else value
