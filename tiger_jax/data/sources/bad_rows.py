"""Counts or refuses rows that cannot be used."""

from pathlib import Path
from typing import Any

from tiger_jax.data.sources.row_counts import RowCounts
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


class BadRows:
  """Counts the rows of one or several files, or raises the first bad one.

  Attributes:
    counts: The counts. The caller must add the rows that it keeps.
    strict: Whether the first bad row raises an error.
  """

  def __init__(self, max_share: float = 0.0):
    """Sets the largest share of bad rows; with 0, no row may be bad."""
    self.counts = RowCounts()
    self.strict = not max_share
    self._max_share = max_share

  @property
  def counts_of_lines(self) -> RowCounts | None:
    """The counts for `raw_lines.read`; None if no row may be bad."""
    return None if self.strict else self.counts

  def add(self, row: BadRow) -> None:
    """Counts a bad row, or raises it if no row may be bad."""
    if self.strict:
      raise row
    self.counts.drop(row.reason, Path(row.where).name, row.sample)

  def check(self, name: str) -> None:
    """Raises DataError if too many rows of the files `name` were bad."""
    bad, read = self.counts.num_dropped, self.counts.num_read
    if bad > self._max_share * read:
      dropped = self.counts.as_json()['dropped']
      reason, first = max(dropped.items(), key=lambda x: x[1]['rows'])
      raise DataError(
        f'{name}: {bad:,} of {read:,} rows are bad, but '
        f'config.dataset.max_bad_share is {self._max_share:g}; most are '
        f'{reason} ({first["samples"][0]}): correct the rows, or raise '
        'max_bad_share'
      )
