"""Reads columns of files with one JSON object per line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Int64
import numpy as np

from tiger_jax.data import item_text
from tiger_jax.data.files import column_names, raw_lines
from tiger_jax.data.files.bad_rows import BadRows
from tiger_jax.data.files.column_names import Columns
from tiger_jax.errors import DataError

_BLOCK_ROWS = 2**16
# The names of other fields are kept only for an error message.
_MOST_OTHER_NAMES = 100
_MOST_SHAPES = 1000


def read(
  path: Path, wanted: Columns, bad: BadRows, notes: list[str]
) -> Iterator[tuple[Int64[np.ndarray, ' rows'], dict[str, list[Any]]]]:
  """Yields blocks of rows: their numbers, and their columns as Python objects.

  See `csv_table.read` for the arguments.

  Raises:
    DataError: The file is damaged, or lacks a required column; or a record has
      two different values for a column, and neither name is preferred.
  """
  reader = _Reader(path, wanted, notes)
  numbers: list[int] = []
  rows: list[dict[str, Any]] = []
  dropped = bad.counts.num_dropped
  records = raw_lines.read(path, bad)
  number = 0
  for record in records:
    number += 1
    # Lines that are not records are rows too.
    now = number + bad.counts.num_dropped - dropped
    numbers.append(now)
    rows.append(reader.row(record.values, now))
    if len(rows) == _BLOCK_ROWS:
      # The caller may count bad rows of the block, which are already numbered.
      before = bad.counts.num_dropped
      yield np.asarray(numbers), reader.columns(rows)
      dropped += bad.counts.num_dropped - before
      numbers, rows = [], []
  if rows:
    yield np.asarray(numbers), reader.columns(rows)
  reader.finish()


class _Reader:
  """Finds the columns of records whose fields may have different names.

  For example, some records may have the field `user`, and others `user_id`. If
  a record has both with different values, only `user` is read in all records,
  because `user` is the column's own name. In this case, a record that has only
  `user_id` is an error.
  """

  def __init__(self, path: Path, wanted: Columns, notes: list[str]):
    self._path = path
    self._wanted = wanted
    self._notes = notes
    self._shapes: dict[tuple[Any, ...], dict[str, list[str]]] = {}
    self._names: dict[str, None] = {}
    self._present: set[str] = set()
    # Maps a column to the first row with different values for it, and to the
    # names of the two fields.
    self._conflicts: dict[str, tuple[int, str, str]] = {}
    self._without_own_name: set[str] = set()

  def row(self, record: Mapping[Any, Any], number: int) -> dict[str, Any]:
    """Returns the values of a record by column."""
    shape = tuple(record)
    sources = self._shapes.get(shape)
    if sources is None:
      sources = self._sources(shape)
      if len(self._shapes) < _MOST_SHAPES:
        self._shapes[shape] = sources
    values = {}
    for column, names in sources.items():
      if len(names) == 1:
        values[column] = record[names[0]]
        continue
      used = self._merge(column, names, record, number)
      values[column] = record[used]
    return values

  def _sources(self, shape: tuple[Any, ...]) -> dict[str, list[str]]:
    names = [name for name in shape if isinstance(name, str)]
    for name in names:
      if len(self._names) < _MOST_OTHER_NAMES:
        self._names[name] = None
    found = self._wanted.find(names)
    sources = {
      column: [names[i] for i in positions]
      for column, positions in found.items()
    }
    for column, own in sources.items():
      if not self._own(column, own):
        self._without_own_name.add(column)
    return sources

  def _own(self, column: str, names: list[str]) -> list[str]:
    positions = column_names.exact(names, range(len(names)), column)
    return [names[i] for i in positions]

  def _merge(
    self, column: str, names: list[str], record: Mapping[Any, Any], number: int
  ) -> str:
    """Returns the name of the field to read, and records conflicts."""
    present = [name for name in names if record[name] is not None]
    if not present:
      return names[0]
    if not self._own(column, present):
      self._without_own_name.add(column)
    first = present[0]
    for other in present[1:]:
      value, second = record[first], record[other]
      if type(value) is not type(second) or value != second:
        self._conflicts.setdefault(column, (number, first, other))
        own = self._own(column, present)
        if len(own) != 1:
          raise self._conflict(column)
        return own[0]
    return first

  def _conflict(self, column: str) -> DataError:
    number, first, second = self._conflicts[column]
    return DataError(
      f'{self._path} has columns {item_text.shown(first)} and '
      f'{item_text.shown(second)}, and either could be {column}, but row '
      f'{number} has a different value in each: {self._wanted.remedy(column)}'
    )

  def columns(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns the columns of a block."""
    self._check()
    present = {column for row in rows for column in row}
    if not self._present:
      self._wanted.require(self._path, list(self._names), present)
    self._present |= present
    return {
      column: [row.get(column) for row in rows]
      for column in (*self._wanted.required, *self._wanted.optional)
      if column in self._present
    }

  def finish(self) -> None:
    """Checks the whole file, and adds notes for the user."""
    self._check()
    for column in self._conflicts:
      names = list(self._names)
      own = self._own(column, names)[0]
      self._notes += self._wanted.unused(
        self._path, names, {column: names.index(own)}
      )

  def _check(self) -> None:
    for column in self._conflicts:
      if column in self._without_own_name:
        raise self._conflict(column)
