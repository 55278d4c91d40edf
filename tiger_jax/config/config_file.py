"""Reads config files, and applies overrides to their fields."""

import ast
from collections.abc import Mapping
from importlib import machinery, util
import inspect
import numbers
import os
from pathlib import Path
import sys
import traceback
import types
from typing import Any

import ml_collections

import tiger_jax
from tiger_jax.config import Config, config_dict
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
    name: The path of the file. It may end with `:` and the name of a variant.
      If a path of the form `configs/...` does not exist, the installed file of
      this name is read.

  Raises:
    UsageError: There is no such file or variant, or the file raises an error.
  """
  path, variant = split(expand(name, '--config'))
  path = _find_file(path)
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
    _check_readable(config)
  except UsageError as error:
    raise UsageError(f'{path}: {error}') from error
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # A config file may call sys.exit.
    raise UsageError(_explain(path, error)) from error
  return config


def load_config(
  path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> Config:
  """Loads the settings of a run from a config file.

  Example:
    >>> import tiger_jax
    >>> changes = {'train.steps': 500}
    >>> config = tiger_jax.load_config('configs/beauty.py:cpu', changes)
    >>> config.train.steps
    500

  Args:
    path: The path of the file, see `load`.
    overrides: Maps fields to their values, as in `{'train.steps': 500}`.

  Raises:
    UsageError: There is no such file, variant or field, or a value is not
      valid. The message names all wrong values.
  """
  if overrides is not None and not isinstance(overrides, Mapping):
    raise UsageError(
      f'overrides is {SHOWN.repr(overrides)}: pass a dict from fields to values'
    )
  settings = load(str(config_dict.as_path(path, 'path')))
  if 'experiment' in settings:
    raise UsageError(
      f'{path} is an experiment of several runs: name the config of one run'
    )
  fields = {
    str(x).removeprefix('config.'): y for x, y in (overrides or {}).items()
  }
  override(settings, fields)
  return config_dict.parse(settings)


def override(
  config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> None:
  """Applies overrides to a config.

  Args:
    config: The config to change.
    values: Maps a field, such as `train.steps`, to its value. Text from the
      command line is converted to the type of the field.

  Raises:
    UsageError: A field does not exist, or a value has the wrong type. The
      message names all wrong fields.
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
  where, section, current, name = 'config', config, config, ''
  for name in path.split('.'):
    section = current
    if not isinstance(section, ml_collections.ConfigDict):
      raise UsageError(f'{where} is not a section: it has no {name!r}')
    if name not in section:
      hint = did_you_mean(name, list(section))
      raise UsageError(f'{where}.{name} is not a field; {hint}')
    where = f'{where}.{name}'
    current = section[name]
  if isinstance(current, ml_collections.ConfigDict):
    raise UsageError(
      f'{where} is a section: set one of its fields, {", ".join(current)}'
    )
  if isinstance(value, str | bool):
    value = _convert(current, value, where)
  elif isinstance(value, numbers.Integral):  # NumPy's integers too.
    value = int(value)
  elif isinstance(value, numbers.Real):
    value = float(value)
  with section.ignore_type():  # `config_dict.parse` checks the types.
    section[name] = value


def _convert(current: Any, value: str | bool, where: str) -> Any:
  """Converts the text of an override to the type of the current value."""
  if isinstance(value, bool):
    if not isinstance(current, bool):
      raise UsageError(f'{where} needs a value, as in --{where}={current}')
    return value
  if isinstance(current, str):
    return value
  try:
    if isinstance(current, bool):
      return _BOOLEANS[value.lower()]
    if isinstance(current, int | float):
      return type(current)(value)
  except (ValueError, KeyError) as error:
    raise UsageError(
      f'{where} is {SHOWN.repr(value)}: it must be {_NAMES[type(current)]}'
    ) from error
  try:
    literal = ast.literal_eval(value)
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    literal = value  # Text such as a path; it becomes a tuple of one element.
  if not isinstance(current, tuple | list):
    return literal
  if isinstance(literal, tuple | list):
    return type(current)(literal)
  if (
    value[:1] in ('(', '[')
    or not isinstance(literal, str)
    or (current and type(current[0]) in _NAMES)
  ):
    raise UsageError(
      f'{where} is {SHOWN.repr(value)}: it must be a tuple, such as '
      f'{current or (8, 8, 8)}'
    )
  return type(current)((literal,))


def _find_file(path: str) -> str:
  """Returns the path of a config file: as given, or in the installation."""
  if os.path.isfile(path):
    return path
  if os.path.lexists(path):
    raise UsageError(f'--config is {path!r}, which is not a file: name a file')
  first, *rest = Path(path).parts or ('',)
  installed = _installed_configs()
  if first == 'configs' and os.path.isfile(file := installed.joinpath(*rest)):
    return str(file)
  names = [str(x) for x in sorted(Path(path).parent.glob(f'*{_SUFFIX}'))]
  for file in sorted(installed.rglob(f'*{_SUFFIX}')):
    names.append(f'configs/{file.relative_to(installed).as_posix()}')
  hint = did_you_mean(path, list(dict.fromkeys(names)))
  if not hint.endswith('?'):
    few = [x for x in names if not x.startswith('configs/paper/')]
    hint = did_you_mean(path, [*dict.fromkeys(few), 'configs/paper/NAME.py'])
  raise UsageError(f'there is no config file {SHOWN.repr(path)}: {hint}')


def _installed_configs() -> Path:
  """Returns the folder `configs` of the installed wheel or the repository."""
  package = Path(tiger_jax.__file__).parent
  in_wheel = package / 'configs'
  return in_wheel if in_wheel.is_dir() else package.parent / 'configs'


def _make_configs_importable(path: str) -> None:
  """Makes `from configs import beauty` work in a config file in any folder.

  The import system searches three folders named `configs` in this order: the
  folder that holds the file, the one in the working directory, and the
  installed one.
  """
  for name in [x for x in sys.modules if x.partition('.')[0] == 'configs']:
    del sys.modules[name]
  package = types.ModuleType('configs')
  parents = [x for x in Path(path).absolute().parents if x.name == 'configs']
  # Absolute, because the import system caches the content of each path.
  folders = (*parents[:1], Path('configs').absolute(), _installed_configs())
  package.__path__ = [str(x) for x in folders]
  sys.modules['configs'] = package
  # `python -m` adds the working directory to `sys.path`; a script does not.
  if '' not in sys.path:
    sys.path.append('')


def _check_variant(get_config: Any, variant: str) -> None:
  try:
    inspect.signature(get_config).bind(*[variant] if variant else [])
  except TypeError as error:
    raise UsageError(
      f'it has no variants: remove :{variant}'
      if variant
      else 'it needs a variant: append a colon and the name of the variant'
    ) from error


def _check_readable(config: Any) -> None:
  """Locks a config. Raises UsageError if it is none or has a wrong key."""
  if not isinstance(config, ml_collections.ConfigDict):
    raise UsageError(
      f'get_config() returned {type(config).__name__}: return a config that '
      'you got from config_dict.defaults()'
    )
  try:
    config.lock().to_dict()
  except Exception as error:
    raise UsageError(
      'get_config() returned a config that cannot be read '
      f'({type(error).__name__}: {error}): the keys must be text, and all '
      'values must be set'
    ) from error


def _explain(path: str, error: BaseException) -> str:
  """Returns a one-line message with the place and the text of an error."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  if isinstance(error, SyntaxError) and error.filename == path:
    lines.append(error.lineno)
  where = f'{path}, line {lines[-1]}' if lines else path
  # The text of a KeyError, which ml_collections raises, has repr escapes.
  message = error.msg if isinstance(error, SyntaxError) else str(error)
  text = message.replace('\\n', ' ').replace("\\'", "'").strip()
  if len(text) > _LONGEST:
    text = f'{text[:_LONGEST]}...'
  return f'{where}: {type(error).__name__}{text and f": {text}"}'
