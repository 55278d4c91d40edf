"""Counts or refuses rows that cannot be used."""

from pathlib import Path
from typing import Any

from tiger_jax.data import item_text
from tiger_jax.data.files.row_counts import RowCounts
from tiger_jax.errors import DataError


class BadRow(DataError):
  """A row that cannot be used.

  Attributes:
    reason: The reason in a few words, without values of the row.
    where: The file and the row.
    sample: The wrong value, or the beginning of the row.
  """

  def __init__(self, message: str, reason: str, where: str, sample: Any):
    """Sets the message for the user, and the values for the counts."""
    super().__init__(message)
    self.reason = reason
    self.where = where
    self.sample = sample


def wrong(where: str, name: str, value: Any, requirement: str) -> BadRow:
  """Returns an error about a value that does not meet a requirement.

  Args:
    where: The file and the row.
    name: The name of the value, such as `user`.
    value: The value; None if it is missing.
    requirement: The requirement, as in 'it must be a number'.
  """
  return BadRow(
    f'{where}: {name} is {item_text.shown(value)}: {requirement}',
    f'with no {name}' if value is None else f'with a wrong {name}',
    where, value,
  )  # fmt: skip


class BadRows:
  """Counts the rows of one or several files, or raises the first bad one.

  Attributes:
    counts: The counts. The caller counts the rows that it keeps.
    strict: Whether the first bad row raises an error. The error names the
      setting that allows bad rows.
  """

  def __init__(self, max_share: float = 0.0):
    """Sets the largest share of bad rows; with 0, no row may be bad."""
    self.counts = RowCounts()
    self.strict = not max_share
    self._max_share = max_share

  def add(self, row: BadRow) -> None:
    """Counts a bad row, or raises it if no row may be bad."""
    if self.strict:
      raise BadRow(
        f'{row}; or drop bad rows with config.dataset.max_bad_share',
        row.reason, row.where, row.sample,
      ) from row  # fmt: skip
    self.counts.drop(row.reason, Path(row.where).name, row.sample)

  def check(self, name: str) -> None:
    """Raises DataError if too many rows of the files `name` were bad."""
    bad, read = self.counts.num_dropped, self.counts.num_read
    if bad > self._max_share * read:
      raise DataError(
        f'{name}: {bad:,} of {read:,} rows are bad, but '
        f'config.dataset.max_bad_share is {self._max_share:g}; most are '
        f'{self.worst()}: correct the rows, or raise max_bad_share'
      )

  def worst(self) -> str:
    """Returns the most frequent reason of bad rows, with a sample."""
    dropped = self.counts.as_json()['dropped']
    reason, rows = max(dropped.items(), key=lambda x: x[1]['rows'])
    return f'{reason} ({rows["samples"][0]})'
