"""Counts the kept and the dropped rows of a file."""

from typing import Any

from tiger_jax.data import item_text

_MAX_SAMPLES = 3


class RowCounts:
  """Counts the rows of a file, and keeps samples of the dropped rows.

  A blank line is not a row. Every row is either kept or dropped for one reason.

  Attributes:
    kept: The number of kept rows.
  """

  def __init__(self) -> None:
    """Starts at zero."""
    self.kept = 0
    self._dropped: dict[str, int] = {}
    self._samples: dict[str, list[str]] = {}

  def keep(self, number: int = 1) -> None:
    """Counts rows that are kept."""
    self.kept += number

  def drop(self, reason: str, where: str, sample: Any) -> None:
    """Counts a row that is dropped.

    Args:
      reason: The reason, such as 'without a user'. Rows with the same reason
        are counted together, so it must not contain a value of the row.
      where: The place of the row, such as 'items.csv, row 7'.
      sample: The wrong value. The first three of a reason are shown.
    """
    self._dropped[reason] = self._dropped.get(reason, 0) + 1
    samples = self._samples.setdefault(reason, [])
    if len(samples) < _MAX_SAMPLES:
      samples.append(f'{where}: {item_text.shown(sample)}')

  def add(self, counts: dict[str, Any]) -> None:
    """Adds the result of `as_json` of the next file of the same table."""
    self.kept += counts['kept']
    for reason, entry in counts['dropped'].items():
      self._dropped[reason] = self._dropped.get(reason, 0) + entry['rows']
      samples = self._samples.setdefault(reason, [])
      samples += entry['samples'][: _MAX_SAMPLES - len(samples)]

  @property
  def num_dropped(self) -> int:
    """The number of dropped rows."""
    return sum(self._dropped.values())

  @property
  def num_read(self) -> int:
    """The number of rows, kept or dropped."""
    return self.kept + self.num_dropped

  def as_json(self) -> dict[str, Any]:
    """Returns the counts, see `data.counts`."""
    return {
      'read': self.num_read,
      'kept': self.kept,
      'dropped': {
        reason: {'rows': number, 'samples': self._samples[reason]}
        for reason, number in self._dropped.items()
      },
    }
