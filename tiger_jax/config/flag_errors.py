"""Explains errors in the flags of a command line."""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

from absl import flags

from tiger_jax.config import Config, config_dict
from tiger_jax.config.checks import did_you_mean
from tiger_jax.config.flags import TOPICS, names

_TYPES = {'int': 'an integer', 'float': 'a number', 'bool': 'true or false'}


def explain(error: Exception) -> str:
  """Returns a one-line message for an error of absl."""
  if isinstance(error, flags.UnrecognizedFlagError):
    return unknown_flag(error.flagname)
  text = ' '.join(str(error).removeprefix('ERROR:: ').split())
  if match := re.fullmatch(r'flag --(\w+)=(.*?): .*', text):
    name, value = match[1], match[2]
    flag_type = _TYPES.get(flags.FLAGS[name].flag_type(), 'a list of ids')
    shown = config_dict.SHOWN.repr(value)
    return f'--{name} is {shown}: it must be {flag_type}'
  if match := re.fullmatch(
    r'Missing value for flag -+(\w+)|-+(\w+) with no argument', text
  ):
    name = match[1] or match[2]
    return f'--{name} needs a value, as in --{name}=VALUE'
  if text.endswith('does not take an argument'):
    return f'{text}: remove the value'
  if isinstance(error, UnicodeDecodeError):
    return f'the file of --flagfile is not text ({text})'
  return text


def unknown_flag(name: str) -> str:
  """Returns a message that suggests a similar flag or config field."""
  for path in _fields(Config(), '--config'):
    if path.endswith(f'.{name}'):
      return f'no flag --{name}: did you mean {path}?'
  flags_ = [f'--{x}' for topic in TOPICS for x in names(topic)]
  return f'no flag --{name}: {did_you_mean(f"--{name}", flags_)}'


def _fields(section: Any, path: str) -> Iterator[str]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from _fields(value, f'{path}.{field.name}')
    else:
      yield f'{path}.{field.name}'
