"""Validates config fields."""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import math
from typing import Any

from tiger_jax.errors import UsageError

# The metadata key for the former value of a field. With this value, the code
# behaves as it did before the field was added. Fingerprints omit a field that
# has its former value.
BEFORE = 'before'


def added_later(default: Any, before: Any) -> Any:
  """Declares a field that records of older versions do not have.

  Args:
    default: The value in new configs.
    before: The value with which the code behaves as it did before the field was
      added, see `BEFORE`.
  """
  return dataclasses.field(default=default, metadata={BEFORE: before})


def did_you_mean(name: str, choices: Sequence[str]) -> str:
  """Returns a hint: the choice nearest to a name, or else all choices."""
  near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
  if near:
    return f'did you mean {near[0]}?'
  return f'choose from {", ".join(choices)}'


def nearest_and_all(name: str, choices: Sequence[str]) -> str:
  """Returns a hint: the choice nearest to a name, and all choices."""
  hint = did_you_mean(name, choices)
  if not hint.endswith('?'):
    return hint
  return f'{hint} Choose from {", ".join(choices)}'


def choose(table: Mapping[str, Any], name: str, where: str) -> Any:
  """Returns the value of a key; raises UsageError if there is no such key."""
  if name not in table:
    raise UsageError(
      f'{where} is {name!r}: {nearest_and_all(name, tuple(table))}'
    )
  return table[name]


def require_positive(section: Any, *names: str) -> None:
  """Raises UsageError unless all fields are positive and finite."""
  for name in names:
    value = getattr(section, name)
    if not 0 < value < math.inf:
      rule = 'positive' if math.isfinite(value) else 'positive and finite'
      raise UsageError(f'{name} is {value}: it must be {rule}')


def require_not_negative(section: Any, *names: str) -> None:
  """Raises UsageError if a field is negative or not finite."""
  for name in names:
    value = getattr(section, name)
    if not 0 <= value < math.inf:
      rule = 'not be negative' if math.isfinite(value) else 'be finite'
      raise UsageError(f'{name} is {value}: it must {rule}')


def require_fraction(section: Any, *names: str) -> None:
  """Raises UsageError unless all fields are from 0 to 1."""
  for name in names:
    value = getattr(section, name)
    if not 0 <= value <= 1:
      raise UsageError(f'{name} is {value}: choose from [0, 1]')


def require_at_most(section: Any, largest: int, *names: str) -> None:
  """Raises UsageError if a field, or an element of a tuple, is too large."""
  for name in names:
    value = getattr(section, name)
    if (
      max(value if isinstance(value, tuple) else (value,), default=0) > largest
    ):
      raise UsageError(f'{name} is too large: choose at most {largest:,}')


def require_one_of(section: Any, name: str, choices: tuple[str, ...]) -> None:
  """Raises UsageError if a field is not one of the choices."""
  value = getattr(section, name)
  if value not in choices:
    raise UsageError(f'{name} is {value!r}: {nearest_and_all(value, choices)}')
