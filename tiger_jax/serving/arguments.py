"""What callers of the Python API pass, checked and read exactly once.

Iterators and generators are used up by the first walk through them. Every
argument is therefore turned into a list, a tuple or a number here, and nothing
else in `serving` walks through what a caller passed.
"""

from collections.abc import Iterable, Mapping, MappingView, Set
import math
import operator
import reprlib
from typing import Any

from tiger_jax.errors import UsageError

# How an error message shows a value.
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def listed(values: Any, where: str, of: str, ordered: bool = True) -> list[Any]:
  """Returns the elements of an argument, walking through it once.

  Args:
    values: An iterable, or a column of NumPy, pandas, Arrow or JAX.
    where: What to call the argument in an error.
    of: What its elements are, for an error.
    ordered: Whether the order counts.

  Raises:
    UsageError: It is text, a mapping, a table, a set whose order would count,
      or nothing that has elements.
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
    raise UsageError(
      f'{where} is the text {shown(values)}: put it in a list, '
      f'[{shown(values)}]'
    )
  if not isinstance(values, Iterable):
    raise UsageError(f'{where} is {shown(values)}: pass a list of {of}')
  return list(values)


def item_ids(values: Any, where: str, ordered: bool = True) -> list[str]:
  """Returns item ids as the catalogue has them, which is as text.

  Args:
    values: Ids as text or as integers, see `listed`.
    where: What to call the argument in an error.
    ordered: Whether the order counts.

  Raises:
    UsageError: See `listed`; or an id is neither text nor an integer.
  """
  return [
    value if type(value) is str else _item_id(value, f'{where}[{place}]')
    for place, value in enumerate(listed(values, where, 'item ids', ordered))
  ]


def item_rows(values: Any, where: str, num_items: int) -> list[int]:
  """Returns the rows of a history.

  Args:
    values: Rows, see `listed`.
    where: What to call the argument in an error.
    num_items: Items of the catalogue.

  Raises:
    UsageError: See `listed`; there are none, or one is not a row.
  """
  rows = listed(values, where, 'item rows')
  if not rows:
    raise UsageError(f'{where} is empty: name at least one item row')
  most = num_items - 1
  return [
    whole_number(row, f'{where}[{place}]', 0, most)
    for place, row in enumerate(rows)
  ]


def whole_number(
  value: Any, where: str, least: int, most: float = math.inf
) -> int:
  """Returns an integer of Python or NumPy as Python's.

  Args:
    value: The integer.
    where: What to call the argument in an error.
    least: The smallest that is accepted.
    most: The largest.

  Raises:
    UsageError: It is no integer, such as a float or a bool, or out of range.
  """
  number = _as_integer(value)
  if number is None:
    raise UsageError(f'{where} is {shown(value)}: pass an integer')
  if not least <= number <= most:
    limits = f'at least {least}' if most == math.inf else f'{least} to {most}'
    raise UsageError(f'{where} is {shown(number)}: choose {limits}')
  return number


def real_number(value: Any, where: str, least: float, most: float) -> float:
  """Returns a number of Python or NumPy as Python's float.

  Args:
    value: The number.
    where: What to call the argument in an error.
    least: The smallest that is accepted.
    most: The largest.

  Raises:
    UsageError: It is no number, or out of range.
  """
  try:
    # Text and True would be accepted too.
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
  """Returns a bool of Python or NumPy as Python's.

  Raises:
    UsageError: It is something else, such as the text 'no', which is true.
  """
  if type(value).__name__ not in ('bool', 'bool_'):
    raise UsageError(f'{where} is {shown(value)}: pass True or False')
  return bool(value)


def shown(value: Any) -> str:
  """Returns a value as an error shows it: short, without control characters."""
  text = _repr.repr(_plain(value))
  return ' '.join(text.split()) if '\n' in text else text


def _item_id(value: Any, where: str) -> str:
  value = _plain(value)
  if isinstance(value, str):
    return str(value)
  number = _as_integer(value)
  if number is None:
    raise UsageError(
      f'{where} is {shown(value)}: ids are text, or integers where the shop '
      f'has integers{_hint(value)}'
    )
  return str(number)


def _as_integer(value: Any) -> int | None:
  value = _plain(value)
  # operator.index takes True, and arrays of one element.
  if isinstance(value, bool) or getattr(value, 'ndim', 0):
    return None
  try:
    return operator.index(value)
  except TypeError:
    return None


def _plain(value: Any) -> Any:
  """Returns a scalar of Arrow or NumPy as Python's."""
  for method in ('as_py', 'item'):
    if hasattr(value, method) and not getattr(value, 'ndim', 0):
      return getattr(value, method)()
  return value


def _hint(value: Any) -> str:
  if isinstance(_plain(value), float):
    return ' (pandas turns integers with missing values into floats)'
  return ''
