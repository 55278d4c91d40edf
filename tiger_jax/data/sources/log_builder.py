"""Builds a `Log` and `ItemTexts` from rows, in compact arrays."""

import array
from collections.abc import Mapping, Sequence
import math
from typing import Any

from jaxtyping import Float64, Int64
import numpy as np

from tiger_jax.data import item_text
from tiger_jax.data.sources.bad_rows import BadRow, BadRows
from tiger_jax.data.sources.log import ItemTexts, Log
from tiger_jax.errors import DataError

_YEAR_10000 = 253_402_300_800  # Seconds since 1970.
_MICROSECONDS = 10**6  # Per second.
CLEAN = 'text without control characters'


class LogBuilder:
  """Collects events; each takes 16 bytes, or 20 with a rating."""

  def __init__(self, bad: BadRows, with_ratings: bool):
    """Starts without events. Events with wrong values are added to `bad`."""
    self._bad = bad
    self._user_codes: dict[str, int] = {}
    self._item_codes: dict[str, int] = {}
    self._users, self._items = array.array('i'), array.array('i')
    self._times = array.array('d')
    self._ratings = array.array('f') if with_ratings else None

  def add(
    self, where: str, user: Any, item: Any, time: float, rating: Any = None
  ) -> None:
    """Adds an event, unless a value is wrong.

    Args:
      where: The place of the row, for messages.
      user: The id of the user.
      item: The id of the item.
      time: A finite time in any unit.
      rating: The rating: a number, text, or None if it is missing.
    """
    user_code = self._user_codes.get(user) if type(user) is str else None
    item_code = self._item_codes.get(item) if type(item) is str else None
    if user_code is None and not _is_id(user):
      return self._bad.add(wrong(where, 'the user', user, CLEAN))
    if item_code is None and not _is_id(item):
      return self._bad.add(wrong(where, 'the item', item, CLEAN))
    if self._ratings is not None:
      number = _number(rating)
      if number is None:
        return self._bad.add(wrong(where, 'the rating', rating, 'a number'))
      self._ratings.append(number)
    if user_code is None:
      user_code = self._user_codes.setdefault(user, len(self._user_codes))
    if item_code is None:
      item_code = self._item_codes.setdefault(item, len(self._item_codes))
    self._users.append(user_code)
    self._items.append(item_code)
    self._times.append(time)

  def log(self, file: str, has_times: bool = True) -> Log:
    """Returns the events.

    Args:
      file: The source of the events, for messages.
      has_times: Whether the times are known. Otherwise they are ignored.

    Raises:
      DataError: There are no events, or too many bad rows.
    """
    self._bad.counts.keep(len(self._users))
    self._bad.check(file)
    if not self._users:
      raise DataError(f'{file} holds no events: download or copy it again')
    ratings = None
    if self._ratings is not None:
      ratings = np.asarray(self._ratings, np.float32)
    times = stored_times(np.asarray(self._times)) if has_times else None
    return Log(
      user_ids=tuple(self._user_codes),
      users=np.asarray(self._users, np.int32),
      item_ids=tuple(self._item_codes),
      items=np.asarray(self._items, np.int32),
      timestamps=times,
      ratings=ratings,
    )


class TextsBuilder:
  """Collects the texts of items; the last copy of an item is kept.

  Attributes:
    names: The names of the text columns.
    repeated: The number of items that replaced an earlier copy.
  """

  def __init__(self, names: Sequence[str]):
    """Starts without items; `names` are the names of the text columns."""
    self.names = tuple(names)
    self.repeated = 0
    self._positions: dict[str, int] = {}
    self._columns: dict[str, list[str]] = {name: [] for name in names}

  def add(self, item_id: str, texts: Mapping[str, str]) -> None:
    """Adds an item, or replaces its texts."""
    position = self._positions.setdefault(item_id, len(self._positions))
    is_new = position == len(next(iter(self._columns.values())))
    self.repeated += not is_new
    for name, column in self._columns.items():
      if is_new:
        column.append(texts[name])
      else:
        column[position] = texts[name]

  def texts(
    self, file: str, required: Sequence[str], names: Sequence[str]
  ) -> ItemTexts:
    """Returns the texts.

    Args:
      file: The source of the items, for messages.
      required: The columns that the item text is made from.
      names: The names of the fields in the file, for messages.

    Raises:
      DataError: A required column is empty.
    """
    for name in required:
      if not any(self._columns[name]):
        raise DataError(
          f'{file} has no {item_text.shown(name)} for any item: use other '
          'columns in config.embedding.template; the file has '
          f'{", ".join(map(item_text.shown, names))}'
        )
    return ItemTexts(tuple(self._positions), self._columns)


def wrong(where: str, name: str, value: Any, requirement: str) -> BadRow:
  """Returns an error about a value of a row. A value of None is missing.

  Args:
    where: The file and the row.
    name: The name of the value, such as 'the user'.
    value: The value.
    requirement: What the value must be.
  """
  problem = 'missing' if value is None else item_text.shown(value)
  return BadRow(
    f'{where}: {name} is {problem}: it must be {requirement}; correct or '
    'remove the row, or allow bad rows with config.dataset.max_bad_share',
    reason=f'{name} is not {requirement}',
    where=where,
    sample=value,
  )


def stored_times(
  times: Float64[np.ndarray, ' interactions'],
) -> Int64[np.ndarray, ' interactions']:
  """Returns times as seconds since 1970, or as microseconds.

  The unit of the input is seconds, milliseconds or microseconds. It is inferred
  from the largest value. The result is in seconds if all times are whole
  seconds.
  """
  largest = float(np.abs(times).max(initial=0.0))
  scale = next(
    _MICROSECONDS // per_second
    for per_second in (1, 1000, _MICROSECONDS)
    if largest < 10**11 * per_second or per_second == _MICROSECONDS
  )
  microseconds = np.rint(times * scale).astype(np.int64)
  if (microseconds % _MICROSECONDS == 0).all():
    return microseconds // _MICROSECONDS
  return microseconds


def parse_time(text: str) -> float | None:
  """Parses a time since 1970 in any unit; returns None if it is not valid."""
  try:
    time = float(text)
  except ValueError:
    return None
  limit = _YEAR_10000 * _MICROSECONDS
  # `float` accepts underscores, which are not valid in a file.
  return time if 0 <= time < limit and '_' not in text else None


def _is_id(value: Any) -> bool:
  return isinstance(value, str) and item_text.is_clean(value)


def _number(value: Any) -> float | None:
  """Returns a rating as a number: NaN if it is missing, None if it is wrong."""
  if value is None or value == '':
    return math.nan
  if isinstance(value, (bool, list, dict)):
    return None
  try:
    number = float(value)
  except (ValueError, TypeError, OverflowError):
    return None
  return number if math.isfinite(number) else None
