"""What the fields of a section may be."""

import dataclasses
import math
from typing import Any

from tiger_jax.errors import UsageError

# Metadata of a field that was added later: the value that versions without it
# behaved as. Where a field has this value, records and fingerprints omit it.
BEFORE = 'before'


def added_later(default: Any, before: Any) -> Any:
  """Declares a field that runs of older versions do not have.

  Args:
    default: Of the field.
    before: The value that versions without the field behaved as.
  """
  return dataclasses.field(default=default, metadata={BEFORE: before})


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
    raise UsageError(f'{name} is {value!r}: choose from {", ".join(choices)}')
