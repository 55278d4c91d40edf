"""Reads the times of events: numbers, ISO 8601 text, or date types.

Each block of a file becomes whole numbers in the unit of the file, and
millionths of that unit. The unit is known only after the first block.
"""

from typing import NamedTuple

from jaxtyping import Bool, Int64
import numpy as np

from tiger_jax.data.events import time_values
from tiger_jax.data.events.time_values import BAD, DATE, NUMBER, Parsed
from tiger_jax.data.files import tables

# The number of digits of times from 1e8 upward shows their unit. In seconds,
# 1e8 is in the year 1973, and 1e11 is in the year 5138.
_UNITS = ('seconds', 'milliseconds', 'microseconds', 'nanoseconds')
_BOUNDS = (10**8, 10**11, 10**14, 10**17)
_WANTED = 'it must be a number or an ISO 8601 date'
_MIXED = 'numbers and ISO 8601 dates are mixed: use only one kind'

_Rows = Bool[np.ndarray, ' rows']


class Problem(NamedTuple):
  """Rows of a block with unusable times, and what the times must be."""

  rows: _Rows
  requirement: str


class Times:
  """Collects the times of a table, block by block.

  The first block determines whether the times are dates or numbers. If they are
  numbers, the unit of most of them is the unit of the table.
  """

  def __init__(self) -> None:
    """Starts without times."""
    self._kind: int | None = None
    # An index into `_UNITS`; None if all numbers so far are small.
    self._unit: int | None = None
    self._blocks: list[tuple[Int64[np.ndarray, ' n'], ...]] = []

  def read(self, column: tables.Column) -> tuple[Parsed, list[Problem]]:
    """Parses a block of times, and returns the rows that cannot be used."""
    parsed = time_values.parse(column)
    if self._kind is None:
      dates, numbers = (
        int((parsed.kinds == kind).sum()) for kind in (DATE, NUMBER)
      )
      if dates or numbers:
        self._kind = DATE if dates > numbers else NUMBER
    problems = [Problem(parsed.kinds == BAD, _WANTED)]
    if self._kind is not None:
      other = NUMBER if self._kind == DATE else DATE
      problems.append(Problem(parsed.kinds == other, _MIXED))
    if self._kind == NUMBER:
      problems.append(self._wrong_unit(parsed))
    return parsed, problems

  def keep(self, parsed: Parsed, kept: _Rows) -> None:
    """Appends the times of a block where `kept` is true."""
    self._blocks.append((parsed.whole[kept], parsed.millionths[kept]))

  def finish(self, source: str) -> tuple[Int64[np.ndarray, ' n'], list[str]]:
    """Returns all times, and notes for the user.

    Times are in seconds since 1970 if all are whole seconds, and otherwise in
    microseconds. Small numbers have no known unit and are unchanged.
    """
    whole, millionths = map(np.concatenate, zip(*self._blocks, strict=True))
    self._blocks = []
    if self._kind == DATE:
      seconds, rest, unit = whole, millionths, 'times are dates'
    elif self._unit is None:
      seconds, rest = whole, np.zeros_like(millionths)
      unit = 'the unit of the times is unknown, because they are small numbers'
    else:
      unit = f'times are in {_UNITS[self._unit]}'
      seconds, rest = _seconds(whole, millionths, self._unit)
    notes = [f'{source}: {unit}']
    if self._kind == NUMBER and (count := int((whole <= 0).sum())):
      notes.append(
        f'{source}: {count:,} times are zero or negative, and come first'
      )
    if rest.any():
      return seconds * 10**6 + rest, notes
    return seconds, notes

  def _wrong_unit(self, parsed: Parsed) -> Problem:
    """Returns the rows with a number of digits that shows another unit."""
    size = np.abs(parsed.whole)
    # 0 for small numbers, and 1, 2, ... for the units.
    units = np.searchsorted(_BOUNDS, size, side='right')
    units[parsed.kinds != NUMBER] = 0
    if self._unit is None and units.any():
      self._unit = int(np.argmax(np.bincount(units[units > 0]))) - 1
    if self._unit is None:
      return Problem(np.zeros(len(units), bool), '')
    return Problem(
      (units > 0) & (units != self._unit + 1),
      f'most times are in {_UNITS[self._unit]}, and this one is not: write '
      'all times in the same unit',
    )


def _seconds(
  whole: Int64[np.ndarray, ' n'], millionths: Int64[np.ndarray, ' n'], unit: int
) -> tuple[Int64[np.ndarray, ' n'], Int64[np.ndarray, ' n']]:
  """Converts times to whole seconds and microseconds."""
  scale = 1000**unit
  seconds, rest = np.divmod(whole, scale)
  if unit == 0:
    return seconds, millionths
  if unit == 1:
    return seconds, rest * 1000 + millionths // 1000
  return seconds, rest // 1000 ** (unit - 2)
