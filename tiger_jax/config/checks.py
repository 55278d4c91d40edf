"""Validators of config fields."""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import math
from typing import Any

from tiger_jax.errors import UsageError

# The metadata key for the former value of a field that was added later: with
# this value, the code behaves as versions without the field. Fingerprints omit
# a field that has its former value.
BEFORE = 'before'


def added_later(default: Any, before: Any) -> Any:
  """Declares a field that records of older versions do not have.

  Args:
    default: The default of the field.
    before: Its former value, see `BEFORE`.
  """
  return dataclasses.field(default=default, metadata={BEFORE: before})


def did_you_mean(name: str, choices: Sequence[str]) -> str:
  """Returns a question that names the nearest choice, or lists all choices."""
  near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
  if near:
    return f'did you mean {near[0]}?'
  return f'choose from {", ".join(choices)}'


def nearest_and_all(name: str, choices: Sequence[str]) -> str:
  """Returns a question that names the nearest choice, and all choices."""
  hint = did_you_mean(name, choices)
  if not hint.endswith('?'):
    return hint
  return f'{hint} Choose from {", ".join(choices)}'


def choose(table: Mapping[str, Any], name: str, where: str) -> Any:
  """Returns the entry of a name, or raises UsageError with the nearest one."""
  if name not in table:
    raise UsageError(
      f'{where} is {name!r}: {nearest_and_all(name, tuple(table))}'
    )
  return table[name]


def require_positive(section: Any, *names: str) -> None:
  """Raises UsageError where a field is not above zero and finite."""
  for name in names:
    value = getattr(section, name)
    if not 0 < value < math.inf:
      raise UsageError(f'{name} is {value}: it must be positive')


def require_not_negative(section: Any, *names: str) -> None:
  """Raises UsageError where a field is below zero or not finite."""
  for name in names:
    value = getattr(section, name)
    if not 0 <= value < math.inf:
      raise UsageError(f'{name} is {value}: it must not be negative')


def require_at_most(section: Any, largest: int, *names: str) -> None:
  """Raises UsageError where a field, or one of its values, is larger."""
  for name in names:
    value = getattr(section, name)
    if (
      max(value if isinstance(value, tuple) else (value,), default=0) > largest
    ):
      raise UsageError(f'{name} is too large: choose at most {largest:,}')


def require_one_of(section: Any, name: str, choices: tuple[str, ...]) -> None:
  """Raises UsageError where a field is none of the choices."""
  value = getattr(section, name)
  if value not in choices:
    raise UsageError(f'{name} is {value!r}: {nearest_and_all(value, choices)}')
