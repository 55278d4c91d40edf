"""Parses columns of times to integers."""

import datetime
import decimal
import math
import re
from typing import Any, NamedTuple

from jaxtyping import Int64, UInt8
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiger_jax.data.files import tables

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc
# The kinds of times.
BAD, NUMBER, DATE = 0, 1, 2
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_MILLION = 10**6
# The beginnings of the years 1 and 10,000, in seconds since 1970.
_FIRST, _END = -62_135_596_800, 253_402_300_800
_PER_SECOND = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}
# Smaller numbers must be whole numbers, because their unit is not known.
_LEAST_FRACTION = 10**8
_NUMBER = re.compile(
  r'[+-]?(\d{1,19}(\.\d{0,20})?|\d(\.\d{0,20})?e[+-]?\d{1,3})',
  re.ASCII | re.IGNORECASE,
)
_INTEGER_TEXT = '^-?[0-9]{1,18}$'
_ISO_TEXT = r'^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?$'

_Times = Int64[np.ndarray, ' rows']


class Parsed(NamedTuple):
  """A block of times.

  Attributes:
    kinds: BAD, NUMBER or DATE for each row.
    whole: Whole numbers in the unit of the file; for dates, seconds since 1970.
    millionths: Millionths of the unit, from 0 to 999,999.
  """

  kinds: UInt8[np.ndarray, ' rows']
  whole: _Times
  millionths: _Times


def parse(column: tables.Column) -> Parsed:
  """Parses a block of times."""
  if isinstance(column, list):
    return _parse_list(column)
  kind = column.type
  if tables.is_text(kind):
    return _parse_text(column)
  if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
    return _parse_dates(column)
  valid = column.is_valid().to_numpy(zero_copy_only=False)
  if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
    numbers = column.cast(pa.int64()).fill_null(0)
    return _numbers(numbers.to_numpy(zero_copy_only=False), valid)
  if pa.types.is_floating(kind):
    floats = column.cast(pa.float64()).fill_null(math.nan)
    return _floats(floats.to_numpy(zero_copy_only=False))
  if pa.types.is_decimal(kind) or pa.types.is_uint64(kind):
    return _parse_list(column.to_pylist())
  return _bad(len(column))


def _bad(num_rows: int) -> Parsed:
  zeros = np.zeros(num_rows, np.int64)
  return Parsed(np.full(num_rows, BAD, np.uint8), zeros, zeros)


def _numbers(numbers: _Times, valid: Any) -> Parsed:
  # The absolute value of -2**63 is not an int64.
  valid = valid & (numbers != -(2**63))
  kinds = np.where(valid, NUMBER, BAD).astype(np.uint8)
  return Parsed(kinds, numbers, np.zeros_like(numbers))


def _floats(floats: Any) -> Parsed:
  usable = np.abs(floats) < 2**63  # False for NaN.
  numbers = np.where(usable, floats, 0)
  whole = np.floor(numbers)
  rest = np.rint((numbers - whole) * _MILLION).astype(np.int64)
  usable &= (rest == 0) | (np.abs(numbers) >= _LEAST_FRACTION)
  whole = whole.astype(np.int64) + rest // _MILLION
  kinds = np.where(usable, NUMBER, BAD).astype(np.uint8)
  return Parsed(kinds, whole, rest % _MILLION)


def _parse_text(column: pa.Array) -> Parsed:
  trimmed = _compute.utf8_trim_whitespace(column)
  valid = trimmed.is_valid().to_numpy(zero_copy_only=False)
  if _all_match(trimmed, _INTEGER_TEXT):
    numbers = trimmed.cast(pa.int64()).fill_null(0)
    return _numbers(numbers.to_numpy(zero_copy_only=False), valid)
  if _all_match(trimmed, _ISO_TEXT):
    for zone in (None, 'UTC'):
      try:
        return _parse_dates(trimmed.cast(pa.timestamp('us', zone)))
      except pa.ArrowInvalid:
        continue
  encoded = column.dictionary_encode()
  distinct = _parse_list(encoded.dictionary.to_pylist())
  codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
  if not len(encoded.dictionary):
    return _bad(len(column))
  kinds, whole, millionths = (values[codes] for values in distinct)
  return Parsed(np.where(valid, kinds, BAD).astype(np.uint8), whole, millionths)


def _all_match(column: pa.Array, pattern: str) -> bool:
  matches = _compute.match_substring_regex(column, pattern)
  return bool(_compute.all(matches, min_count=0).as_py())


def _parse_dates(column: pa.Array) -> Parsed:
  valid = column.is_valid().to_numpy(zero_copy_only=False)
  if pa.types.is_date32(column.type):
    days = column.cast(pa.int32()).cast(pa.int64()).fill_null(0)
    seconds = days.to_numpy(zero_copy_only=False) * 86_400
    rest, per_second = np.zeros_like(seconds), 1
  else:
    unit = 'ms' if pa.types.is_date64(column.type) else column.type.unit
    per_second = _PER_SECOND[unit]
    stored = column.cast(pa.int64()).fill_null(0)
    stored = stored.to_numpy(zero_copy_only=False)
    seconds, rest = np.divmod(stored, per_second)
  valid = valid & (seconds >= _FIRST) & (seconds < _END)
  kinds = np.where(valid, DATE, BAD).astype(np.uint8)
  if per_second > _MILLION:
    return Parsed(kinds, seconds, rest // (per_second // _MILLION))
  return Parsed(kinds, seconds, rest * (_MILLION // per_second))


def _parse_list(column: list[Any]) -> Parsed:
  if all(type(value) is int for value in column):
    try:
      numbers = np.fromiter(column, np.int64, len(column))
      return _numbers(numbers, np.ones(len(column), bool))
    except OverflowError:
      pass
  parsed = _bad(len(column))
  parsed = Parsed(parsed.kinds, parsed.whole, np.zeros(len(column), np.int64))
  for row, value in enumerate(column):
    kind, number = _time(value)
    if number is None:
      continue
    whole, rest = divmod(number, _MILLION)
    if -(2**63) < whole < 2**63:
      parsed.kinds[row] = kind
      parsed.whole[row] = whole
      parsed.millionths[row] = rest
  return parsed


def _time(value: Any) -> tuple[int, int | None]:
  """Returns the kind of a time, and the time in millionths or None."""
  if type(value) is int:
    return NUMBER, value * _MILLION
  if isinstance(value, str):
    value = value.strip()
    # Longer text is neither a number nor a date.
    if len(value) > 64:
      return BAD, None
    if _NUMBER.fullmatch(value):
      value = decimal.Decimal(value)
    else:
      try:
        value = datetime.datetime.fromisoformat(value)
      except ValueError:
        return BAD, None
  if isinstance(value, (float, decimal.Decimal)):
    return _fraction(value)
  if isinstance(value, datetime.datetime):
    if value.tzinfo is None:
      value = value.replace(tzinfo=datetime.UTC)
    return DATE, (value - _EPOCH) // _MICROSECOND
  if type(value) is datetime.date:
    return DATE, (value - _EPOCH.date()) // _MICROSECOND
  return BAD, None


def _fraction(value: float | decimal.Decimal) -> tuple[int, int | None]:
  # Comparisons of a signaling NaN raise an error.
  if not math.isfinite(value) or not abs(value) < 2**63:
    return BAD, None
  if value != int(value) and abs(value) < _LEAST_FRACTION:
    return BAD, None
  if isinstance(value, float):
    whole = math.floor(value)
    return NUMBER, whole * _MILLION + round((value - whole) * _MILLION)
  return NUMBER, int((value * _MILLION).to_integral_value())
