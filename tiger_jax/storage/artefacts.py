"""Manages the folder of a run: makes, finds and replaces its stages."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import errno
import fcntl
import math
import os
from pathlib import Path
import re
import shutil
import stat
import sys
import time
from typing import Any

from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import files, record
from tiger_jax.storage.claim import LOCK, claim, refuse_link
from tiger_jax.storage.os_errors import describe
from tiger_jax.storage.record import Artefact

RESULTS = 'results.json'
REPORT = 'report.html'
# The number of seconds between two checks for the stage of another process, and
# until a message about the wait is printed.
_POLL_SECONDS = 0.2
_QUIET_SECONDS = 5.0
# The errors of flock on file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def run_stage(
  workdir: Path,
  name: str,
  wanted: str,
  build: Callable[[Path], dict[str, Any] | None],
  *,
  about: dict[str, Any],
  resumable: bool = False,
  elsewhere: Sequence[Path] = (),
) -> tuple[Artefact, bool]:
  """Returns a stage's artefact, and whether this call has made it.

  The stage is built in a partial folder, which gets the stage's name when all
  of it is on disk. Only then is the artefact of another configuration set
  aside, under the beginning of its fingerprint. It is used again when that
  configuration is. The caller holds the lock of the folder.

  Args:
    workdir: The run's folder.
    name: The stage.
    wanted: The fingerprint of everything that the stage reads.
    build: Writes the artefact into the given folder. Returns further JSON to
      record in `about`, or None.
    about: JSON to record with the fingerprint.
    resumable: Whether `build` resumes from the files of an interrupted call;
      otherwise these are removed.
    elsewhere: Folders of other runs, whose artefacts are read if they have the
      wanted fingerprint.

  Raises:
    UsageError: The stage's folder is a link.
    DataError: An artefact is damaged or of a newer version, its name is taken
      by something else, or the file system failed.
  """
  final, partial = workdir / name, partial_folder(workdir, name, wanted)
  try:
    for folder in (final, partial, _aside(workdir, name, wanted)):
      refuse_link(folder)
    if made := _read_if(final, wanted):
      return made, False
    if other := _find([x / name for x in elsewhere], wanted):
      return other, False
    current = record.read(final) if record.exists(final) else None
    _refuse_what_is_in_the_way(workdir, name, current)
    if earlier := _read_if(_aside(workdir, name, wanted), wanted):
      return _put_in_place(earlier.folder, final, current), False
    # A partial folder that is complete needs only its name.
    is_new = not _find([partial], wanted)
    if is_new:
      if not resumable:
        _remove_partials(workdir, name)
      _build(partial, wanted, build, about)
    return _put_in_place(partial, final, current), is_new
  except BrokenPipeError:
    raise  # The terminal is closed; the stage has not failed.
  except OSError as error:
    raise DataError(f'stage {name}: {describe(error, workdir)}') from error


def partial_folder(workdir: Path, name: str, wanted: str) -> Path:
  """Returns the folder in which a stage is built."""
  return workdir / f'{name}.partial-{wanted[:8]}'


def await_stage(
  workdir: Path, name: str, wanted: str, elsewhere: Sequence[Path] = ()
) -> Artefact:
  """Waits for the artefact of another process, and returns it."""
  start, is_announced = time.monotonic(), False
  while True:
    if artefact := _find([x / name for x in (workdir, *elsewhere)], wanted):
      return artefact
    if not is_announced and time.monotonic() - start > _QUIET_SECONDS:
      is_announced = True
      _tell(f'waiting for the main process to finish {workdir / name}')
    time.sleep(_POLL_SECONDS)


def find_artefact(workdir: Path, name: str, wanted: str) -> Artefact | None:
  """Returns a finished artefact, current or set aside; None if missing.

  Raises:
    DataError: It is damaged, or a newer version wrote it.
  """
  for folder in (workdir / name, _aside(workdir, name, wanted)):
    if artefact := _read_if(folder, wanted):
      return artefact
  return None


def read_artefact(workdir: Path, name: str) -> Artefact | None:
  """Returns the artefact of a stage; None if the stage is not finished.

  Raises:
    DataError: It is damaged, or a newer version wrote it.
  """
  folder = workdir / name
  return record.read(folder, thorough=True) if record.exists(folder) else None


def superseded(workdir: Path, names: Sequence[str]) -> list[str]:
  """Returns the names of the stage folders of other configurations."""
  pattern = re.compile(
    rf'({"|".join(map(re.escape, names))})\.(partial-)?[0-9a-f]{{8}}'
  )
  folders = (path.name for path in workdir.glob('*') if path.is_dir())
  return sorted(filter(pattern.fullmatch, folders))


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Makes a run's folder and locks it; warns if the file system has no locks.

  Raises:
    UsageError: Another process uses the folder, it holds something that is not
      a run, or it is not writable.
  """
  claim(workdir)
  with _open_lock(workdir / LOCK) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UsageError(
        f'another run is at work in {workdir}: wait for it, or choose another '
        '--workdir'
      ) from error
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      _tell(
        f'{workdir} is on a file system without locks: make sure that no other '
        'run uses it at the same time'
      )
    yield


def _open_lock(path: Path) -> Any:
  # These flags neither follow a link nor change an existing file.
  flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
  refuse_link(path)
  try:
    file = open(os.open(path, flags, 0o666), 'rb')
  except OSError as error:
    raise UsageError(describe(error, path)) from error
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    file.close()
    raise UsageError(f'{path} is not a regular file: choose another --workdir')
  return file


def _build(
  partial: Path,
  wanted: str,
  build: Callable[[Path], dict[str, Any] | None],
  about: dict[str, Any],
) -> None:
  """Builds a stage in its partial folder, up to its record."""
  partial.mkdir(parents=True, exist_ok=True)
  for path in partial.rglob('*'):
    refuse_link(path)
  clock = partial / 'seconds'
  before = _read_seconds(clock)
  start = time.monotonic()
  try:
    about = about | (build(partial) or {})
  except BaseException as error:
    # A failure here must not hide the original error.
    with contextlib.suppress(OSError):
      if isinstance(error, UsageError | DataError) and not any(
        partial.iterdir()
      ):
        partial.rmdir()  # The inputs were refused, and nothing was made.
      else:
        files.write(clock, str(before + time.monotonic() - start).encode())
    raise
  seconds = before + time.monotonic() - start
  record.write(partial, wanted, seconds, about)


def _read_seconds(clock: Path) -> float:
  """Returns the seconds of earlier calls; 0 if the file has no number."""
  try:
    seconds = float(files.read(clock, 100))
  except (OSError, ValueError):
    return 0.0
  return seconds if 0 <= seconds < math.inf else 0.0


def _put_in_place(
  made: Path, final: Path, current: Artefact | None
) -> Artefact:
  """Gives a finished stage its name, and sets the current artefact aside."""
  # The old results do not describe the new artefact.
  for name in (RESULTS, REPORT):
    (final.parent / name).unlink(missing_ok=True)
  (made / 'seconds').unlink(missing_ok=True)
  if current:
    final.rename(_aside(final.parent, final.name, current.fingerprint))
  # If the process is killed here, the next call uses the partial folder.
  made.rename(final)
  files.sync(final.parent)
  return record.read(final)


def _refuse_what_is_in_the_way(
  workdir: Path, name: str, current: Artefact | None
) -> None:
  """Raises DataError if the final name of a stage is taken."""
  place = workdir / name
  if current:
    place = _aside(workdir, name, current.fingerprint)
  if place.is_symlink() or place.exists():
    raise DataError(
      f'{place} is in the way: remove or rename it, or choose another --workdir'
    )


def _remove_partials(workdir: Path, name: str) -> None:
  """Removes the partial folders of a stage, of any configuration."""
  for other in superseded(workdir, [name]):
    path = workdir / other
    if other.startswith(f'{name}.partial-') and not path.is_symlink():
      shutil.rmtree(path)


def _find(folders: Sequence[Path], wanted: str) -> Artefact | None:
  """Returns the first whole artefact with the fingerprint, None if missing."""
  for folder in folders:
    # It may be damaged, or be moved away meanwhile.
    with contextlib.suppress(OSError, DataError):
      if artefact := _read_if(folder, wanted):
        return artefact
  return None


def _read_if(folder: Path, wanted: str) -> Artefact | None:
  """Returns a stage if it has the fingerprint, after a thorough check."""
  if record.exists(folder) and record.read(folder).fingerprint == wanted:
    return record.read(folder, thorough=True)
  return None


def _aside(workdir: Path, name: str, fingerprint: str) -> Path:
  return workdir / f'{name}.{fingerprint[:8]}'


def _tell(text: str) -> None:
  # A closed stderr must not end a run.
  with contextlib.suppress(OSError, ValueError, AttributeError):
    print(text, file=sys.stderr, flush=True)
