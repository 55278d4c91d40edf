"""What the fields of a section may be."""

import math
from typing import Any

from tiger_jax.errors import UsageError


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


def require_one_of(section: Any, name: str, choices: tuple[str, ...]) -> None:
  """Raises UsageError where a field is none of the choices."""
  value = getattr(section, name)
  if value not in choices:
    raise UsageError(f'{name} is {value!r}: choose from {", ".join(choices)}')
