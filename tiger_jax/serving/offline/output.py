"""The folder of the recommendations for all users.

`part-00000.parquet`, ...: the recommendations of consecutive users
`_SUCCESS`: an empty file, written when all parts are complete
`_manifest.json`: what the recommendations are made from
`_parts/00000.json`, ...: the size, the sha256 and the counts of each part

pandas, pyarrow and Spark read the folder as one table. They ignore names that
begin with `_` or a dot.
"""

from collections.abc import Iterator
import contextlib
import hashlib
from pathlib import Path
import shutil
import time
from typing import Any, NamedTuple
import uuid

import tiger_jax
from tiger_jax.errors import DataError, UsageError
from tiger_jax.runtime.printing import warn
from tiger_jax.storage import claim, files, os_errors
from tiger_jax.storage.artifacts import locked

MANIFEST, SUCCESS = '_manifest.json', '_SUCCESS'
FORMAT = 1
_PARTS, _PARTIAL = '_parts', '_partial'
_POLL_SECONDS = 0.2
_REMEDY = 'remove the folder, or choose another --out'


class Counts(NamedTuple):
  """What a part contains.

  Attributes:
    users: The number of users.
    rows: The number of recommendations.
    popular: The number of users who got the most popular items.
    unknown_ids: The number of ids in histories that are not in the catalog.
  """

  users: int
  rows: int
  popular: int
  unknown_ids: int


class Output:
  """The folder of one job.

  A part is written to `_partial/`, moved to its place, and then recorded. A
  part without a record is written again, so a kill at any time does no harm.
  """

  def __init__(
    self, folder: Path, suffix: str, num_parts: int, job: dict[str, Any]
  ):
    """Sets the folder and the job; writes nothing.

    Args:
      folder: The folder.
      suffix: The suffix of the parts, `parquet` or `jsonl`.
      num_parts: The number of parts.
      job: JSON that determines every row of every part.
    """
    self.folder = folder
    self.num_parts = num_parts
    self.suffix = suffix
    self._job = job

  @contextlib.contextmanager
  def opened(self) -> Iterator[None]:
    """Locks the folder, and removes damaged parts.

    Raises:
      UsageError: Another process uses the folder, or it holds something else.
      DataError: The file system failed.
    """
    with locked(self.folder, self._claim, '--out'):
      with self._explained():
        self._prepare()
      yield

  def _prepare(self) -> None:
    if not (self.folder / MANIFEST).exists():
      files.write_json(
        self.folder / MANIFEST,
        {
          'format': FORMAT,
          'tiger_jax': tiger_jax.__version__,
          'parts': self.num_parts,
          'job': self._job,
        },
      )
    for name in (_PARTS, _PARTIAL):
      (self.folder / name).mkdir(exist_ok=True)
    for number in range(self.num_parts):
      if self.counts(number) and not self._is_intact(number):
        warn(f'{self._path(number)} is damaged, and is written again')
        (self.folder / SUCCESS).unlink(missing_ok=True)
        self._record(number).unlink()

  def counts(self, number: int) -> Counts | None:
    """Returns the counts of a part; None if it is not complete."""
    record = self._read_record(number)
    return record and Counts(**record['counts'])

  def write(self, number: int, data: bytes, counts: Counts) -> None:
    """Writes a complete part.

    Raises:
      DataError: The disk is full, or the folder cannot be written.
    """
    with self._explained():
      path = self._path(number)
      # Two workers of a Beam runner may write the same part.
      partial = self.folder / _PARTIAL / f'{uuid.uuid4().hex}-{path.name}'
      files.write(partial, data)
      partial.replace(path)
      files.sync(self.folder)
      files.write_json(
        self._record(number),
        {
          'name': path.name,
          'bytes': len(data),
          'sha256': hashlib.sha256(data).hexdigest(),
          'counts': counts._asdict(),
        },
      )

  def finish(self) -> Counts:
    """Waits for the parts of all processes, and marks the folder as complete.

    Returns:
      The sums of the counts of all parts.
    """
    counts = [self._await(number) for number in range(self.num_parts)]
    with self._explained():
      shutil.rmtree(self.folder / _PARTIAL, ignore_errors=True)
      if not (self.folder / SUCCESS).exists():
        files.write(self.folder / SUCCESS, b'')
    return Counts(*(sum(x) for x in zip(*counts, strict=True)))

  def await_end(self) -> None:
    """Waits until another process has called `finish`."""
    while not (self.folder / SUCCESS).exists():
      time.sleep(_POLL_SECONDS)

  def _await(self, number: int) -> Counts:
    while not (counts := self.counts(number)):
      time.sleep(_POLL_SECONDS)
    return counts

  def _claim(self, folder: Path) -> None:
    """Creates the folder, and refuses one that belongs to another job.

    Raises:
      UsageError: The folder holds something else, or it cannot be created.
    """
    try:
      folder.mkdir(parents=True, exist_ok=True)
      names = set(claim.entries(folder)) - {claim.LOCK, f'{MANIFEST}.partial'}
    except OSError as error:
      raise UsageError(
        f'{folder} cannot be used ({error.strerror}): choose another --out'
      ) from error
    for name in (MANIFEST, SUCCESS, _PARTS, _PARTIAL):
      claim.refuse_link(folder / name, '--out')
    if MANIFEST in names:
      self._refuse_other_job()
    elif names:
      raise UsageError(
        f'{folder} is not empty, and does not hold recommendations: choose '
        'another --out'
      )

  def _refuse_other_job(self) -> None:
    path = self.folder / MANIFEST
    with files.explained(f'{path} is damaged', _REMEDY):
      manifest = files.read_json(path)
      job, number = manifest['job'], manifest['format']
      if not isinstance(job, dict):
        raise TypeError('the job is not an object')
    if number != FORMAT:
      raise DataError(f'{path} has format {number!r}: {_REMEDY}')
    names = [
      name
      for name in {**self._job, **job}
      if job.get(name) != self._job.get(name)
    ]
    if names:
      raise UsageError(
        f'{self.folder} holds recommendations with another '
        f'{" and another ".join(names)}: {_REMEDY}'
      )

  def _is_intact(self, number: int) -> bool:
    record, path = self._read_record(number), self._path(number)
    try:
      if path.is_symlink() or path.stat().st_size != record['bytes']:
        return False
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    except FileNotFoundError:
      return False
    return digest == record['sha256']

  def _read_record(self, number: int) -> Any:
    """Returns the record of a part; None if there is none."""
    path = self._record(number)
    # The file is opened, because a network file system may still list a file
    # that another host has removed.
    with files.explained(f'{path} is damaged', _REMEDY, files.INVALID):
      try:
        record = files.read_json(path)
      except FileNotFoundError:
        return None
      Counts(**record['counts'])
      return record | {'bytes': int(record['bytes'])}

  def _path(self, number: int) -> Path:
    return self.folder / f'part-{number:05}.{self.suffix}'

  def _record(self, number: int) -> Path:
    return self.folder / _PARTS / f'{number:05}.json'

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    try:
      yield
    except BrokenPipeError:
      raise
    except OSError as error:
      raise DataError(os_errors.describe(error, self.folder)) from error
