"""Collects the events of a table in a log."""

from collections.abc import Callable, Collection, Iterator, Sequence
import itertools
from pathlib import Path
from typing import Any

from jaxtyping import Bool
import numpy as np

from tiger_jax.data.events import event_times, ids, ratings
from tiger_jax.data.events.log import Log
from tiger_jax.data.files import tables
from tiger_jax.data.files.bad_rows import BadRow, BadRows
from tiger_jax.errors import DataError

# A block of this size fits in the CPU cache.
_BLOCK_ROWS = 2**12


class Builder:
  """Collects the events of a table, block by block.

  Attributes:
    first: The first block; None before the first call of `add`.
    times: The times.
    numbers: The numbers of the kept rows, see `tables.Block`.
  """

  def __init__(
    self,
    bad: BadRows,
    form: event_times.Form = event_times.Form(),  # noqa: B008 (it is frozen)
  ):
    """Starts without events.

    Args:
      bad: Counts the rows.
      form: The form of the times, if earlier rows determine it.
    """
    self.first: tables.Block | None = None
    self.times = event_times.Times(form)
    self.numbers: list[np.ndarray] = []
    self._bad = bad
    self._ids = {'user': ids.Ids(), 'item': ids.Ids()}
    self._codes: dict[str, list[np.ndarray]] = {'user': [], 'item': []}
    self._ratings: list[np.ndarray] = []

  def add(self, block: tables.Block) -> None:
    """Adds the good rows of a block, and reports the others."""
    self._check_columns(block)
    bad: dict[int, BadRow] = {}
    codes = {}
    for name, known in self._ids.items():
      column = block.columns[name]
      codes[name] = known.encode(column)
      wrong = codes[name] < 0
      if wrong.any():
        _note(bad, block, name, wrong, ids.requirement(name, column))
    parsed = rating = None
    if 'timestamp' in block.columns:
      parsed, problems = self.times.read(block.columns['timestamp'])
      for rows, requirement in problems:
        _note(bad, block, 'timestamp', rows, requirement)
    if 'rating' in block.columns:
      rating, wrong = ratings.parse(block.columns['rating'])
      _note(bad, block, 'rating', wrong, ratings.REQUIREMENT)
    for row in sorted(bad):
      self._bad.add(bad[row])
    kept = np.ones(len(block.numbers), bool)
    kept[list(bad)] = False
    self._bad.counts.keep(int(kept.sum()))
    self.numbers.append(block.numbers[kept])
    for name, rows in codes.items():
      self._codes[name].append(rows[kept])
    if parsed is not None:
      self.times.keep(parsed, kept)
    if rating is not None:
      self._ratings.append(rating[kept])

  def _check_columns(self, block: tables.Block) -> None:
    """Raises DataError if the columns differ from those of the first block."""
    if self.first is None:
      self.first = block
    refuse_other_columns(
      (self.first.path, int(self.first.numbers[0]), self.first.columns),
      (block.path, int(block.numbers[0]), block.columns),
    )

  @property
  def has_times(self) -> bool:
    """Whether the table has a column of times."""
    return self.first is not None and 'timestamp' in self.first.columns

  def finish(self, source: str) -> tuple[Log, list[str]]:
    """Returns the log, and notes for the user."""
    has_times = self.has_times
    times, notes = self.times.finish(source) if has_times else (None, [])
    log, id_notes = self.log(source)
    return log._replace(timestamps=times), notes + id_notes

  def log(self, source: str) -> tuple[Log, list[str]]:
    """Returns the log without times, and notes on the ids."""
    notes: list[str] = []
    columns = {}
    for name, known in self._ids.items():
      rows = np.concatenate(self._codes.pop(name))
      texts = known.texts()
      # The first row of an id may be bad, and was dropped. The ids are in the
      # order of their first kept rows.
      if self._bad.counts.num_dropped:
        used, first = np.unique(rows, return_index=True)
        used = used[np.argsort(first)]
        new_codes = np.zeros(len(texts), np.int32)
        new_codes[used] = np.arange(len(used))
        rows = new_codes[rows]
        texts = [texts[code] for code in used.tolist()]
      num_rows = np.bincount(rows, minlength=len(texts))
      notes += ids.placeholders(source, name, texts, num_rows)
      columns[name] = texts, rows
    rating = np.concatenate(self._ratings) if self._ratings else None
    return Log(*columns['user'], *columns['item'], None, rating), notes


def refuse_other_columns(
  first: tuple[Path, int, Collection[str]],
  other: tuple[Path, int, Collection[str]],
) -> None:
  """Raises DataError if only one of two blocks has times or ratings.

  A block is described by its file, its first row and its columns.
  """
  for name in ('timestamp', 'rating'):
    if (name in first[2]) != (name in other[2]):
      raise DataError(
        f'{other[0]}, row {other[1]}, and {first[0]}, row {first[1]}: only one '
        f'of them has a column {name}; write it in all files and rows, or in '
        'none'
      )


def _note(
  bad: dict[int, BadRow],
  block: tables.Block,
  name: str,
  wrong: Bool[np.ndarray, ' rows'],
  requirement: str,
) -> None:
  """Adds the wrong rows of a block to `bad`, unless they are already there."""
  for row in np.flatnonzero(wrong).tolist():
    if row not in bad:
      bad[row] = block.bad_row(name, row, requirement)


def blocks(
  path: Path,
  rows: Iterator[tuple[Any, ...]],
  columns: Sequence[str],
  as_column: Callable[[Sequence[Any]], tables.Column] = list,
) -> Iterator[tables.Block]:
  """Yields rows as blocks of a table.

  Args:
    path: The file, for messages.
    rows: The number of the line of each row, and the value of each column.
    columns: The names of the columns.
    as_column: Converts the values of a column.
  """
  while chunk := list(itertools.islice(rows, _BLOCK_ROWS)):
    numbers, *values = zip(*chunk, strict=True)
    arrays = dict(zip(columns, map(as_column, values), strict=True))
    yield tables.Block(path, np.asarray(numbers), arrays, 'line')


def no_times(source: str) -> str:
  """Returns a note about a table without a column of times."""
  return (
    f'{source} has no column timestamp: the events of a user are in the order '
    'of the rows'
  )


def read(
  blocks: Iterator[tables.Block], bad: BadRows, path: Path
) -> tuple[Log, list[str]]:
  """Returns the events of a table, and notes for the user.

  Args:
    blocks: The table, with the columns `user`, `item`, and possibly `timestamp`
      and `rating`.
    bad: Counts the rows.
    path: The file or folder of the table, for messages.

  Raises:
    DataError: Too many rows are bad, or none is good.
  """
  builder = Builder(bad)
  for block in blocks:
    builder.add(block)
  check_rows(bad, path)
  return builder.finish(path.name)


def check_rows(bad: BadRows, path: Path) -> None:
  """Raises DataError if too many rows of a table are bad, or none is good."""
  bad.check(str(path))
  if not bad.counts.kept:
    bad_rows = ''
    if number := bad.counts.num_dropped:
      bad_rows = f': all {number:,} rows are bad, most of them {bad.worst()}'
    raise DataError(
      f'{path} has no event that can be used{bad_rows}; correct it, or copy or '
      'download it again'
    )
