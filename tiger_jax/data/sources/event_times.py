"""Reads the times of events: integers, ISO 8601 text, or date types."""

import datetime
import decimal
import math
import re
from typing import Any

from jaxtyping import Bool, Int64
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiger_jax.data.sources import tables

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
# The beginnings of the years 1 and 10,000, in microseconds since 1970.
_FIRST, _END = -62_135_596_800_000_000, 253_402_300_800_000_000
_PER_SECOND = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}
_INTEGER = re.compile(r'[+-]?\d{1,19}(\.0*)?', re.ASCII)
_WANTED = 'it must be an integer or an ISO 8601 date'
# The years 1973 to 5138, in seconds and in milliseconds since 1970.
_SECONDS, _MILLISECONDS = (10**8, 10**11), (10**11, 10**14)

_Times = Int64[np.ndarray, ' rows']


def read(table: tables.Table, name: str) -> tuple[_Times, list[str]]:
  """Returns a column of times as integers, and warnings for the user.

  Integers are unchanged. Dates become microseconds since 1970.

  Raises:
    DataError: A value is missing, or is neither an integer nor a date in the
      years 1 to 9999; or the column has both integers and dates.
  """
  column = table.columns[name]
  if isinstance(column, list):
    return _parse(table, name)
  kind = column.type
  if column.null_count:
    row = int(np.argmax(column.is_null().to_numpy()))
    raise table.refusal(name, row, _WANTED)
  if pa.types.is_duration(kind) or pa.types.is_time(kind):
    raise table.refusal(name, 0, _WANTED)
  if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
    return _from_dates(table, name, column), []
  if pa.types.is_string(kind) or pa.types.is_large_string(kind):
    column = _compute.ascii_trim_whitespace(column)
    digits = _compute.match_substring_regex(column, '^-?[0-9]{1,18}$')
    if _compute.all(digits).as_py():
      numbers = column.cast(pa.int64()).to_numpy()
      return numbers, _warnings(table, numbers)
  elif pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
    numbers = column.cast(pa.int64()).to_numpy()
    return numbers, _warnings(table, numbers)
  return _parse(table, name)


def _parse(table: tables.Table, name: str) -> tuple[_Times, list[str]]:
  """Parses each distinct value of a column of text or Python objects."""
  rows, values = tables.encode(table, name)
  numbers = np.zeros(len(values), np.int64)
  kinds: dict[str, int] = {}
  wrong = rows < 0
  for code, value in enumerate(values):
    kind, number = _time(value)
    if number is None or not -(2**63) <= number < 2**63:
      wrong |= rows == code
      break
    kinds.setdefault(kind, code)
    numbers[code] = number
  if wrong.any():
    raise table.refusal(name, int(np.argmax(wrong)), _WANTED)
  if len(kinds) > 1:
    row = int(np.argmax(rows == max(kinds.values())))
    raise table.refusal(
      name, row, 'integers and ISO 8601 dates are mixed: use only one kind'
    )
  times = numbers[rows]
  return times, [] if 'date' in kinds else _warnings(table, times)


def _from_dates(
  table: tables.Table, name: str, column: pa.ChunkedArray
) -> _Times:
  if pa.types.is_date32(column.type):
    column = column.cast(pa.date64())  # From days to milliseconds.
  unit = column.type.unit if pa.types.is_timestamp(column.type) else 'ms'
  stored, per_second = column.cast(pa.int64()).to_numpy(), _PER_SECOND[unit]
  scale = 10**6 // per_second
  if per_second > 10**6:
    microseconds = stored // (per_second // 10**6)
  else:
    # Checked before scaling, because scaling could overflow.
    _check(table, name, (stored < _FIRST // scale) | (stored > _END // scale))
    microseconds = stored * scale
  _check(table, name, (microseconds < _FIRST) | (microseconds >= _END))
  return microseconds


def _check(
  table: tables.Table, name: str, outside: Bool[np.ndarray, ' rows']
) -> None:
  if outside.any():
    raise table.refusal(
      name,
      int(np.argmax(outside)),
      'it must be between the years 1 and 9999; correct or remove the row',
    )


def _warnings(table: tables.Table, numbers: _Times) -> list[str]:
  """Returns warnings about integer times that look wrong."""
  seconds, milliseconds = (
    int(((numbers >= low) & (numbers < high)).sum())
    for low, high in (_SECONDS, _MILLISECONDS)
  )
  warnings = []
  if seconds and milliseconds:
    warnings.append(
      f'{table.path.name}: some times look like seconds, others like '
      'milliseconds, so their order may be wrong'
    )
  if count := int((numbers <= 0).sum()):
    warnings.append(
      f'{table.path.name}: {count:,} times are zero or negative, and come first'
    )
  return warnings


def _time(value: Any) -> tuple[str, int | None]:
  """Returns the kind of a time, and the time as an integer or None."""
  if type(value) is int:
    return 'integer', value
  if isinstance(value, (float, decimal.Decimal)):
    whole = math.isfinite(value) and value == int(value)
    return 'integer', int(value) if whole else None
  if isinstance(value, str):
    value = value.strip()
    if _INTEGER.fullmatch(value):
      return 'integer', int(value.partition('.')[0])
    try:
      value = datetime.datetime.fromisoformat(value)
    except ValueError:
      return 'unknown', None
  if isinstance(value, datetime.datetime):
    if value.tzinfo is None:
      value = value.replace(tzinfo=datetime.UTC)
    return 'date', (value - _EPOCH) // _MICROSECOND
  if type(value) is datetime.date:
    return 'date', (value - _EPOCH.date()) // _MICROSECOND
  return 'unknown', None
