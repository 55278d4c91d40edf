"""Reads the histories of a run or of a file, in parts."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
import functools
import hashlib
import io
import itertools
import json
import os
from pathlib import Path
import stat
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from tiger_jax.data import item_text
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.files.raw_lines import MAX_LINE_BYTES
from tiger_jax.errors import DataError, UsageError
from tiger_jax.serving import arguments
from tiger_jax.serving.snapshot import Snapshot
from tiger_jax.storage import files

_COLUMNS = ('user', 'history')
# Longer ids are refused, because an id is written once for each recommendation.
MAX_ID = 1024
# The number of rows of a Parquet file that are read at a time.
_ROWS = 4096


class Part(NamedTuple):
  """Consecutive users and their histories.

  Attributes:
    users: The id of each user.
    rows: The row of each user in the data of the run; -1 for an unknown user.
    histories: The item rows of each history, oldest first.
    num_unknown: The number of ids that are not in the catalog. They are not in
      `histories`.
  """

  users: tuple[str, ...]
  rows: list[int]
  histories: list[list[int]]
  num_unknown: int = 0


class RunHistories:
  """The histories of all users of a run.

  Attributes:
    num_users: The number of users.
  """

  def __init__(self, snapshot: Snapshot):
    """Reads from the data of the model.

    Raises:
      UsageError: The model is from a bundle.
      DataError: The id of a user is too long.
    """
    if snapshot.model.dataset is None:
      raise UsageError(
        'the model is from a bundle, which has no histories: give '
        '--histories=FILE, or name the folder of a run with --workdir'
      )
    self._snapshot = snapshot
    self._dataset: Dataset = snapshot.model.dataset
    self.num_users = self._dataset.num_users
    refuse_long_id(self._dataset.user_ids, 'user')

  @functools.cached_property
  def digest(self) -> str:
    """A sha256 of all users and histories."""
    dataset = self._dataset
    digest = hashlib.sha256(json.dumps(dataset.user_ids).encode())
    digest.update(dataset.offsets.tobytes())
    digest.update(dataset.history.tobytes())
    return digest.hexdigest()

  def read(self, first: int, num: int) -> Part:
    """Returns `num` users, starting with the user `first`; fewer at the end."""
    rows = list(range(first, min(first + num, self.num_users)))
    users = self._dataset.user_ids[first : first + num]
    return Part(users, rows, self._snapshot.histories_of(rows))


class FileHistories:
  """The histories of a `.jsonl` or `.parquet` file.

  Each line or row has the fields `user`, an id, and `history`, a list of item
  ids, oldest first. Ids are text or integers. The whole file is checked before
  it is used, so that an error in the last line does not waste hours.

  Attributes:
    num_users: The number of users.
    digest: The sha256 of the file.
  """

  def __init__(self, snapshot: Snapshot, path: Path):
    """Checks the file.

    Args:
      snapshot: The model and the catalog.
      path: The file.

    Raises:
      DataError: The file is missing or damaged, or a line or a row is wrong.
    """
    self._snapshot = snapshot
    self._path = path
    if path.suffix not in ('.jsonl', '.parquet'):
      raise UsageError(
        f'--histories is {str(path)!r}: name a .jsonl or a .parquet file'
      )
    # For every `_ROWS` users, the position in the file, and the number of lines
    # before it.
    self._starts: list[tuple[int, int]] = []
    self.num_users = 0
    with _explained(path), _open(path) as file:
      self._status = _version(file)
      self.digest = hashlib.file_digest(file, 'sha256').hexdigest()
      for _ in self._entries(file, 0):
        self.num_users += 1
    if not self.num_users:
      raise DataError(f'{path} is empty: add at least one history')

  def read(self, first: int, num: int) -> Part:
    """Returns `num` users, starting with the user `first`; fewer at the end."""
    users: list[str] = []
    histories: list[list[int]] = []
    num_unknown = 0
    with _explained(self._path), _open(self._path) as file:
      for user, ids in itertools.islice(self._entries(file, first), num):
        rows, unknown = self._snapshot.history(ids, 'history', strict=False)
        num_unknown += len(unknown)
        users.append(user)
        histories.append(rows)
      if _version(file) != self._status:
        raise DataError(
          f'{self._path} has changed since the start: keep it unchanged, and '
          'start again'
        )
    return Part(tuple(users), [-1] * len(users), histories, num_unknown)

  def _entries(
    self, file: io.BufferedReader, first: int
  ) -> Iterator[tuple[str, list[str]]]:
    """Yields the users and their item ids, starting with the user `first`."""
    read = self._lines if self._path.suffix == '.jsonl' else self._rows
    for where, values in read(file, first):
      yield _entry(values, where)

  def _lines(
    self, file: io.BufferedReader, first: int
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the content of each line that is not blank."""
    count = first // _ROWS * _ROWS
    position, number = self._starts[count // _ROWS] if count else (0, 0)
    file.seek(position)
    while line := file.readline(MAX_LINE_BYTES + 1):
      number += 1
      where = f'{self._path}, line {number}'
      if len(line) > MAX_LINE_BYTES:
        raise DataError(
          f'{where} is longer than {MAX_LINE_BYTES} bytes: shorten the history'
        )
      if line.strip():
        if count == len(self._starts) * _ROWS:
          self._starts.append((position, number - 1))
        if count >= first:
          yield where, _object(line, where)
        count += 1
      position += len(line)

  def _rows(
    self, file: io.BufferedReader, first: int
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the content of each row of a Parquet file."""
    with parquet.ParquetFile(file) as table:
      names = table.schema_arrow.names
      for name in _COLUMNS:
        if name not in names:
          raise DataError(
            f'{self._path} has no column {name!r}: it needs the columns '
            f'{" and ".join(_COLUMNS)}'
          )
      start = 0
      for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if end > first:
          yield from self._group(table, group, start, first)
        start = end

  def _group(
    self, table: parquet.ParquetFile, group: int, start: int, first: int
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the rows of a row group. `start` is the number of rows before."""
    for batch in table.iter_batches(
      _ROWS, row_groups=[group], columns=list(_COLUMNS)
    ):
      skipped = min(max(0, first - start), batch.num_rows)
      for row, values in enumerate(
        batch.slice(skipped).to_pylist(), start + skipped + 1
      ):
        yield f'{self._path}, row {row}', values
      start += batch.num_rows


Source = RunHistories | FileHistories


def refuse_long_id(ids: Sequence[str], name: str) -> None:
  """Raises DataError if the longest id has more than `MAX_ID` characters."""
  longest = max(ids, key=len, default='')
  if len(longest) > MAX_ID:
    raise DataError(
      f'{name} is {item_text.shown(longest)}, an id of {len(longest):,} '
      f'characters: shorten it to {MAX_ID:,}'
    )


def _object(line: bytes, where: str) -> dict[str, Any]:
  """Returns the JSON object of a line."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):
    value = None
  if not isinstance(value, dict):
    raise DataError(
      f'{where} is not a JSON object: write lines such as '
      '{"user": "u1", "history": ["i1", "i2"]}'
    )
  return value


def _entry(values: dict[str, Any], where: str) -> tuple[str, list[str]]:
  """Returns the user and the item ids of a line or a row."""
  for name in _COLUMNS:
    if values.get(name) is None:
      raise DataError(f'{where} has no {name}: add it, or remove the line')
  try:
    (user,) = arguments.item_ids([values['user']], 'user')
    history = arguments.item_ids(values['history'], 'history')
  except UsageError as error:
    message = str(error).replace('user[0] is', 'user is')
    raise DataError(f'{where}: {message}') from error
  # Text in a Parquet file must be valid Unicode.
  if not item_text.is_unicode(user):
    raise DataError(
      f'{where}: user is {item_text.shown(user)}, which is not valid Unicode: '
      'correct it'
    )
  refuse_long_id([user], f'{where}: user')
  return user, history


def _open(path: Path) -> io.BufferedReader:
  # O_NONBLOCK, because opening a pipe without a writer would block.
  file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb')
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    file.close()
    raise DataError(f'{path} is not a regular file: name a file')
  return file


def _version(file: io.BufferedReader) -> tuple[int, int]:
  """Returns values that change when a file is written."""
  status = os.fstat(file.fileno())
  return status.st_size, status.st_mtime_ns


def _explained(path: Path) -> AbstractContextManager[None]:
  """Converts the errors of a missing or damaged file to a DataError."""
  return files.explained(
    f'{path} cannot be read',
    'name a readable .jsonl or .parquet file with --histories',
    (pa.ArrowException, OSError, OverflowError, ValueError),
  )
