"""Numbers the ids of users and items while they are read."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int32, Int64
import numpy as np
import pyarrow as pa

from tiger_jax.data import item_text
from tiger_jax.data.files import tables

REQUIREMENT = 'it must be text or an integer, without control characters'
_PLACEHOLDERS = {'null', 'none', 'nan', 'n/a', '<na>', '\\n', 'undefined'}


class Ids:
  """Maps each id to its code, the number of distinct ids before it.

  An id is text or an integer; 7, '7' and ' 7' are the same id.
  """

  def __init__(self) -> None:
    """Starts without ids."""
    self._codes: dict[str, int] = {}

  def __len__(self) -> int:
    """Returns the number of ids."""
    return len(self._codes)

  def texts(self) -> list[str]:
    """Returns the id of each code."""
    return list(self._codes)

  def encode(self, column: tables.Column) -> Int32[np.ndarray, ' rows']:
    """Returns the code of each value; -1 for a value that cannot be an id."""
    if isinstance(column, list):
      return np.fromiter(map(self._code, column), np.int32, len(column))
    kind = column.type
    if not tables.is_text(kind) and not pa.types.is_integer(kind):
      if pa.types.is_large_binary(kind):  # Some values are not UTF-8.
        return self.encode([_decoded(x) for x in column.to_pylist()])
      return np.full(len(column), -1, np.int32)
    encoded = column.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    if tables.is_text(kind):
      self._add_clean(distinct)
    codes = np.empty(len(distinct) + 1, np.int32)
    codes[:-1] = [self._code(value) for value in distinct]
    codes[-1] = -1
    return codes[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

  def _add_clean(self, texts: list[str | None]) -> None:
    """Adds new ids at once if all are valid without any change."""
    new = [text for text in texts if text is not None]
    new = [text for text in new if text not in self._codes]
    if item_text.is_clean(''.join(new)) and all(
      text and text == text.strip() for text in new
    ):
      first = len(self._codes)
      self._codes.update(zip(new, range(first, first + len(new)), strict=True))

  def _code(self, value: Any) -> int:
    code = self._codes.get(value) if type(value) is str else None
    if code is not None:
      return code
    text = as_text(value)
    if text is None:
      return -1
    return self._codes.setdefault(text, len(self._codes))


def as_text(value: Any) -> str | None:
  """Returns an id as text, or None for a value that cannot be an id."""
  # True and 1.0 equal the integer 1, but they cannot be ids.
  if type(value) is not str:
    if type(value) is not int:
      return None
    value = str(value)
  value = value.strip()
  return value if item_text.is_clean(value) else None


def requirement(name: str, column: tables.Column) -> str:
  """Returns the requirement for ids, with advice if the column has floats."""
  if isinstance(column, list):
    has_floats = any(isinstance(value, float) for value in column)
  else:
    has_floats = pa.types.is_floating(column.type)
  if not has_floats:
    return REQUIREMENT
  return (
    f'{REQUIREMENT}; pandas turns integers into floats in a column with '
    f"missing values: remove those rows, use astype('int64') on {name}, and "
    'save it again'
  )


def placeholders(
  source: str,
  name: str,
  ids: list[str],
  num_rows: Int64[np.ndarray, ' ids'],
) -> list[str]:
  """Returns warnings about ids that may stand for a missing value.

  Some programs write the same id for every unknown visitor. The events of all
  unknown visitors then seem to belong to one user.

  Args:
    source: The name of the file.
    name: `user` or `item`.
    ids: The ids.
    num_rows: The number of events of each id.
  """
  return [
    placeholder_note(source, name, value, number)
    for value, number in placeholder_counts(ids, num_rows)
  ]


def placeholder_counts(
  ids: Sequence[str], num_rows: Int64[np.ndarray, ' ids']
) -> list[tuple[str, int]]:
  """Returns the ids that may stand for a missing value, and their rows."""
  return [
    (value, int(num_rows[code]))
    for code, value in enumerate(ids)
    if value.casefold() in _PLACEHOLDERS
  ]


def placeholder_note(source: str, name: str, value: str, number: int) -> str:
  """Returns a warning about an id with `number` rows, see `placeholders`."""
  return (
    f'{source}: {number:,} rows have the {name} {value!r}, which may stand for '
    'a missing value'
  )


def _decoded(value: bytes | None) -> str | bytes | None:
  try:
    return value if value is None else value.decode()
  except UnicodeDecodeError:
    return value
