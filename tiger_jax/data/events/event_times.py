"""Reads the times of events: numbers, ISO 8601 text, or date types.

The times of a block are read as whole numbers in the unit of the file, and
millionths of that unit. The unit may only be known after several blocks.
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


class Form(NamedTuple):
  """The form of the times of a table.

  Attributes:
    kind: `DATE` or `NUMBER`; None if no row so far has a time.
    unit: An index into the units; None for dates, or if all numbers so far are
      small.
  """

  kind: int | None = None
  unit: int | None = None

  @property
  def is_known(self) -> bool:
    """Whether later rows cannot change the form."""
    return self.kind == DATE or self.unit is not None


class Times:
  """Collects the times of a table, block by block.

  The first block with times determines whether they are dates or numbers. The
  first block with large numbers determines the unit: that of most of these
  numbers.

  Attributes:
    form: The form of the times, as far as the rows so far determine it.
  """

  def __init__(self, form: Form = Form()) -> None:  # noqa: B008 (it is frozen)
    """Starts without times; `form` is known from earlier rows."""
    self.form = form
    self._blocks: list[tuple[Int64[np.ndarray, ' n'], ...]] = []

  def read(self, column: tables.Column) -> tuple[Parsed, list[Problem]]:
    """Parses a block of times, and returns the rows that cannot be used."""
    parsed = time_values.parse(column)
    if self.form.kind is None:
      dates, numbers = (
        int((parsed.kinds == kind).sum()) for kind in (DATE, NUMBER)
      )
      if dates or numbers:
        self.form = Form(DATE if dates > numbers else NUMBER)
    problems = [Problem(parsed.kinds == BAD, _WANTED)]
    if self.form.kind is not None:
      other = NUMBER if self.form.kind == DATE else DATE
      problems.append(Problem(parsed.kinds == other, _MIXED))
    if self.form.kind == NUMBER:
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
    seconds, rest, num_early = self.take()
    form_notes = notes(source, self.form, num_early)
    if rest.any():
      return seconds * 10**6 + rest, form_notes
    return seconds, form_notes

  def take(
    self,
  ) -> tuple[Int64[np.ndarray, ' n'], Int64[np.ndarray, ' n'], int]:
    """Removes and returns the times.

    Returns:
      The whole seconds, the remaining microseconds, and the number of times
      that are zero or negative. Small numbers have no known unit and are
      returned as seconds.
    """
    whole, millionths = map(np.concatenate, zip(*self._blocks, strict=True))
    self._blocks = []
    if self.form.kind == DATE:
      return whole, millionths, 0
    num_early = int((whole <= 0).sum()) if self.form.kind == NUMBER else 0
    if self.form.unit is None:
      return whole, np.zeros_like(millionths), num_early
    return *_seconds(whole, millionths, self.form.unit), num_early

  def _wrong_unit(self, parsed: Parsed) -> Problem:
    """Returns the rows whose numbers have the size of another unit."""
    size = np.abs(parsed.whole)
    # 0 for small numbers, and 1, 2, ... for the units.
    units = np.searchsorted(_BOUNDS, size, side='right')
    units[parsed.kinds != NUMBER] = 0
    unit = self.form.unit
    if unit is None and units.any():
      unit = int(np.argmax(np.bincount(units[units > 0]))) - 1
      self.form = self.form._replace(unit=unit)
    if unit is None:
      return Problem(np.zeros(len(units), bool), '')
    return Problem(
      (units > 0) & (units != unit + 1),
      f'most times are in {_UNITS[unit]}, and this one is not: write '
      'all times in the same unit',
    )


def notes(source: str, form: Form, num_early: int) -> list[str]:
  """Returns notes for the user on the times of a table.

  Args:
    source: The name of the file.
    form: The form of the times.
    num_early: The number of times that are zero or negative.
  """
  if form.kind == DATE:
    unit = 'times are dates'
  elif form.unit is None:
    unit = 'the unit of the times is unknown, because they are small numbers'
  else:
    unit = f'times are in {_UNITS[form.unit]}'
  early = f'{source}: {num_early:,} times are zero or negative, and come first'
  return [f'{source}: {unit}', *([early] if num_early else [])]


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
