"""Reads a config file, and applies overrides from the command line."""

import ast
from collections.abc import Mapping
from importlib import machinery, util
import inspect
import os
from pathlib import Path
import sys
import traceback
import types
from typing import Any

import ml_collections

import tiger_jax
from tiger_jax.config.checks import did_you_mean
from tiger_jax.config.config_dict import SHOWN, expand
from tiger_jax.errors import UsageError

_SUFFIX = '.py'
_LONGEST = 600
_BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}
_NAMES = {int: 'an integer', float: 'a number', bool: 'true or false'}


def split(name: str) -> tuple[str, str]:
  """Splits `configs/beauty.py:cpu` into the path and the variant."""
  path, separator, variant = name.partition(f'{_SUFFIX}:')
  return path + _SUFFIX if separator else path, variant


def load(name: str) -> ml_collections.ConfigDict:
  """Calls the `get_config` of a config file.

  Args:
    name: The path of the file, followed by `:` and a variant if it has any. If
      there is no file at a path of the form `configs/...`, the one that is
      part of the installation is read.

  Raises:
    UsageError: There is no such file or variant, or the file raises an error.
  """
  path, variant = split(expand(name, '--config'))
  path = _find(path)
  _make_configs_importable(path)
  try:
    loader = machinery.SourceFileLoader('config_file', path)
    spec = util.spec_from_loader('config_file', loader)
    assert spec
    module = util.module_from_spec(spec)
    loader.exec_module(module)
    get_config = getattr(module, 'get_config', None)
    if not callable(get_config):
      raise UsageError('it has no function get_config()')
    _check_variant(get_config, variant)
    config = get_config(variant) if variant else get_config()
  except UsageError as error:
    raise UsageError(f'{path}: {error}') from error
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # A config file may call sys.exit.
    raise UsageError(_explain(path, error)) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise UsageError(
      f'{path}: get_config() returned {type(config).__name__}: return what '
      'config_dict.defaults() returns, with changes'
    )
  return config.lock()


def override(
  config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> None:
  """Applies overrides to a config.

  Args:
    config: The config to change.
    values: Maps a field, such as `train.steps`, to its value. Text, as the
      command line gives it, is converted to the type of the field.

  Raises:
    UsageError: Fields do not exist, or values are of another type. The error
      names all of them.
  """
  problems = []
  for path, value in values.items():
    try:
      _set(config, path, value)
    except UsageError as error:
      problems.append(str(error))
  if problems:
    raise UsageError('; '.join(problems))


def _set(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  where, section, before, name = 'config', config, config, ''
  for name in path.split('.'):
    section = before
    if not isinstance(section, ml_collections.ConfigDict):
      raise UsageError(f'{where} is not a section: it has no {name!r}')
    if name not in section:
      hint = did_you_mean(name, list(section))
      raise UsageError(f'{where}.{name} is not a field; {hint}')
    where = f'{where}.{name}'
    before = section[name]
  if isinstance(before, ml_collections.ConfigDict):
    raise UsageError(
      f'{where} is a section: set one of its fields, {", ".join(before)}'
    )
  if isinstance(value, str | bool):
    value = _convert(before, value, where)
  with section.ignore_type():  # `config_dict.parse` checks the types.
    section[name] = value


def _convert(before: Any, value: str | bool, where: str) -> Any:
  """Converts the text of an override to the type of the current value."""
  if isinstance(value, bool):
    if not isinstance(before, bool):
      raise UsageError(f'{where} needs a value, as in --{where}={before}')
    return value
  if isinstance(before, str):
    return value
  try:
    if isinstance(before, bool):
      return _BOOLEANS[value.lower()]
    if isinstance(before, int | float):
      return type(before)(value)
  except (ValueError, KeyError) as error:
    raise UsageError(
      f'{where} is {SHOWN.repr(value)}: it must be {_NAMES[type(before)]}'
    ) from error
  try:
    literal = ast.literal_eval(value)
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    literal = value  # Text, such as a path, is a tuple of one element.
  if not isinstance(before, tuple | list):
    return literal
  if isinstance(literal, tuple | list):
    return type(before)(literal)
  if (
    value[:1] in ('(', '[')
    or not isinstance(literal, str)
    or (before and type(before[0]) in _NAMES)
  ):
    raise UsageError(
      f'{where} is {SHOWN.repr(value)}: it must be a tuple, such as '
      f'{before or (8, 8, 8)}'
    )
  return type(before)((literal,))


def _find(path: str) -> str:
  """Returns the path of a config file: as given, or in the installation."""
  if os.path.isfile(path):
    return path
  if os.path.lexists(path):
    raise UsageError(f'--config is {path!r}, which is not a file: name one')
  first, *rest = Path(path).parts or ('',)
  installed = _installed_configs()
  if first == 'configs' and os.path.isfile(file := installed.joinpath(*rest)):
    return str(file)
  names = [str(x) for x in sorted(Path(path).parent.glob(f'*{_SUFFIX}'))]
  for file in sorted(installed.rglob(f'*{_SUFFIX}')):
    names.append(f'configs/{file.relative_to(installed).as_posix()}')
  hint = did_you_mean(path, list(dict.fromkeys(names)))
  raise UsageError(f'there is no config file {SHOWN.repr(path)}: {hint}')


def _installed_configs() -> Path:
  """Returns the folder `configs` of a wheel, or of a clone."""
  package = Path(tiger_jax.__file__).parent
  in_wheel = package / 'configs'
  return in_wheel if in_wheel.is_dir() else package.parent / 'configs'


def _make_configs_importable(path: str) -> None:
  """Lets a config file do `from configs import beauty`, wherever it lies.

  A module is looked for in the folder `configs` that holds the file, then in
  that of the working directory, and then in that of the installation.
  """
  for name in [x for x in sys.modules if x.partition('.')[0] == 'configs']:
    del sys.modules[name]
  package = types.ModuleType('configs')
  around = [x for x in Path(path).absolute().parents if x.name == 'configs']
  # The import system would remember where a relative path led first.
  folders = (*around[:1], Path('configs').absolute(), _installed_configs())
  package.__path__ = [str(x) for x in folders]
  sys.modules['configs'] = package
  # `python -m` searches the working directory for other modules; a script does
  # not.
  if '' not in sys.path:
    sys.path.append('')


def _check_variant(get_config: Any, variant: str) -> None:
  try:
    inspect.signature(get_config).bind(*[variant] if variant else [])
  except TypeError as error:
    raise UsageError(
      f'it has no variants: leave out :{variant}'
      if variant
      else 'name a variant after the path and a colon'
    ) from error


def _explain(path: str, error: BaseException) -> str:
  """Returns one line that names the error of a config file and its place."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  if isinstance(error, SyntaxError) and error.filename == path:
    lines.append(error.lineno)
  where = f'{path}, line {lines[-1]}' if lines else path
  # ml_collections wraps the text of a KeyError, which is a repr.
  message = error.msg if isinstance(error, SyntaxError) else str(error)
  text = message.replace('\\n', ' ').replace("\\'", "'").strip()
  if len(text) > _LONGEST:
    text = f'{text[:_LONGEST]}...'
  return f'{where}: {type(error).__name__}{text and f": {text}"}'
