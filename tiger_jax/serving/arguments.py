"""Checks and converts the arguments of the Python API.

Iterators and generators can be read only once. This module therefore converts
each argument to a list or a number, and the other modules of `serving` use only
the result.
"""

from collections.abc import Iterable, Mapping, MappingView, Set
import math
import operator
import reprlib
from typing import Any

from tiger_jax.errors import UsageError

# Shortens values for error messages.
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def listed(values: Any, where: str, of: str, ordered: bool = True) -> list[Any]:
  """Returns the elements of an argument, reading it once.

  Args:
    values: An iterable, or an array or column of NumPy, pandas, Arrow or JAX.
    where: The name of the argument, for error messages.
    of: The name of the elements, such as 'item ids', for error messages.
    ordered: Whether the order matters. If so, sets are rejected.

  Raises:
    UsageError: The argument is text, a mapping, a table, a rejected set, or not
      iterable.
  """
  if isinstance(values, Mapping):
    raise UsageError(
      f'{where} is a mapping: pass a list of {of}, such as its .values()'
    )
  if hasattr(values, 'columns'):
    raise UsageError(
      f"{where} is a table: pass one of its columns, as in table['item']"
    )
  is_set = isinstance(values, Set) and not isinstance(values, MappingView)
  if ordered and is_set:
    raise UsageError(
      f'{where} is a set, which has no order: pass a list of {of}'
    )
  for method in ('to_pylist', 'tolist'):  # Arrow; NumPy, pandas and JAX.
    if hasattr(values, method):
      values = getattr(values, method)()
      break
  if isinstance(values, str | bytes | bytearray):
    remedy = f'pass a list of {of}'
    if isinstance(values, str) and of == 'item ids':
      remedy = f'put it in a list, [{shown(values)}]'
    raise UsageError(f'{where} is the text {shown(values)}: {remedy}')
  if not isinstance(values, Iterable):
    raise UsageError(f'{where} is {shown(values)}: pass a list of {of}')
  return list(values)


def item_ids(values: Any, where: str, ordered: bool = True) -> list[str]:
  """Returns item ids as text, which is their type in the catalog.

  Args:
    values: Ids as text or as integers, see `listed`.
    where: The name of the argument, for error messages.
    ordered: Whether the order matters. If so, sets are rejected.

  Raises:
    UsageError: See `listed`; or an id is neither text nor an integer.
  """
  return [
    value if type(value) is str else _item_id(value, f'{where}[{place}]')
    for place, value in enumerate(listed(values, where, 'item ids', ordered))
  ]


def whole_number(
  value: Any, where: str, least: int, most: float = math.inf
) -> int:
  """Converts an integer of Python, NumPy or Arrow to a Python int.

  Args:
    value: The integer. Floats and bools are rejected.
    where: The name of the argument, for error messages.
    least: The smallest accepted value.
    most: The largest accepted value.

  Raises:
    UsageError: The value is not an integer, or is out of range.
  """
  number = _as_integer(value)
  if number is None:
    raise UsageError(f'{where} is {shown(value)}: pass an integer')
  if not least <= number <= most:
    limits = f'at least {least}' if most == math.inf else f'{least} to {most}'
    raise UsageError(f'{where} is {shown(number)}: choose {limits}')
  return number


def real_number(value: Any, where: str, least: float, most: float) -> float:
  """Converts a number of Python or NumPy to a Python float.

  Args:
    value: The number.
    where: The name of the argument, for error messages.
    least: The smallest accepted value.
    most: The largest accepted value.

  Raises:
    UsageError: The value is not a number, or is out of range.
  """
  try:
    # `float` would also convert text and bools.
    number = None if isinstance(value, str | bytes | bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = None
  if number is None:
    raise UsageError(f'{where} is {shown(value)}: pass a number')
  if not least <= number <= most:
    raise UsageError(
      f'{where} is {shown(value)}: choose from {least:g} to {most:g}'
    )
  return number


def switch(value: Any, where: str) -> bool:
  """Converts a bool of Python or NumPy to a Python bool.

  Raises:
    UsageError: The value is not a bool. Python would treat the text 'no' as
      true.
  """
  if type(value).__name__ not in ('bool', 'bool_'):
    raise UsageError(f'{where} is {shown(value)}: pass True or False')
  return bool(value)


def text(value: Any, where: str) -> str:
  """Returns an argument that must be text.

  Raises:
    UsageError: The value is not text.
  """
  value = _plain(value)
  if not isinstance(value, str):
    raise UsageError(f'{where} is {shown(value)}: pass text')
  return str(value)


def shown(value: Any) -> str:
  """Returns a short text for a value, without control characters."""
  text = _repr.repr(_plain(value))
  return ' '.join(text.split()) if '\n' in text else text


def _item_id(value: Any, where: str) -> str:
  value = _plain(value)
  if isinstance(value, str):
    return str(value)
  number = _as_integer(value)
  if number is None:
    raise UsageError(
      f'{where} is {shown(value)}: pass text, or integers if the ids of the '
      f'shop are integers{_hint(value)}'
    )
  try:
    return str(number)
  except ValueError as error:  # Python limits the digits to 4,300.
    raise UsageError(f'{where} is too large an integer for an id') from error


def _as_integer(value: Any) -> int | None:
  value = _plain(value)
  # operator.index would accept True, and arrays of one element.
  if isinstance(value, bool) or getattr(value, 'ndim', 0):
    return None
  try:
    return operator.index(value)
  except TypeError:
    return None


def _plain(value: Any) -> Any:
  """Converts an Arrow or NumPy scalar to a Python value."""
  for method in ('as_py', 'item'):
    if hasattr(value, method) and not getattr(value, 'ndim', 0):
      return getattr(value, method)()
  return value


def _hint(value: Any) -> str:
  if isinstance(_plain(value), float):
    return ' (pandas turns integers with missing values into floats)'
  return ''
