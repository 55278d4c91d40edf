"""The folder of a run: what each stage made, and whether it still holds."""

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
# Seconds between two looks at what another process is making, and until a
# person is told what is waited for.
_POLL_SECONDS = 0.2
_QUIET_SECONDS = 5.0
# What flock fails with on file systems without locks.
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
  """Makes a stage's artefact, unless it is there already.

  The stage is built in a folder of its own, which takes the stage's name when
  all of it is on disk. Only then is what another configuration made set aside,
  under the beginning of its fingerprint; it comes back when that configuration
  does. The caller holds the lock of the folder.

  Args:
    workdir: The run's folder.
    name: The stage.
    wanted: Fingerprint of everything the stage reads.
    build: Writes the artefact into the folder it is given, and returns what to
      record in `about` beside the rest, or None.
    about: Recorded beside the fingerprint.
    resumable: Whether `build` resumes from what an interrupted call left;
      otherwise that is removed.
    elsewhere: Other runs' folders. What is wanted and one of them has is not
      made again, but is read there.

  Returns:
    The artefact, and whether it was made just now.

  Raises:
    UsageError: The stage's folder is a link.
    DataError: An artefact is damaged or of a newer version, something that no
      run made stands in its place, or the file system failed.
  """
  final, partial = workdir / name, partial_folder(workdir, name, wanted)
  try:
    for folder in (final, partial, _aside(workdir, name, wanted)):
      refuse_link(folder)
    if made := _read_if(final, wanted):
      return made, False
    if other := _find(elsewhere, name, wanted):
      return other, False
    current = record.read(final) if record.exists(final) else None
    _refuse_what_is_in_the_way(workdir, name, current)
    if earlier := _read_if(_aside(workdir, name, wanted), wanted):
      return _put_in_place(earlier.folder, final, current), False
    is_new = not _is_whole(partial, wanted)
    if is_new:
      if not resumable:
        _remove_partials(workdir, name)
      _build(partial, wanted, build, about)
    return _put_in_place(partial, final, current), is_new
  except BrokenPipeError:
    raise  # Of the terminal, not of the stage.
  except OSError as error:
    raise DataError(f'stage {name}: {describe(error, workdir)}') from error


def partial_folder(workdir: Path, name: str, wanted: str) -> Path:
  """Returns where a stage is made, before it has its name."""
  return workdir / f'{name}.partial-{wanted[:8]}'


def await_stage(
  workdir: Path, name: str, wanted: str, elsewhere: Sequence[Path] = ()
) -> Artefact:
  """Returns what another process makes or finds, when it is there."""
  start, told = time.monotonic(), False
  while True:
    if found := _find((workdir, *elsewhere), name, wanted):
      return found
    if not told and time.monotonic() - start > _QUIET_SECONDS:
      told = True
      _tell(f'waiting for the main process to finish {workdir / name}')
    time.sleep(_POLL_SECONDS)


def find_artefact(workdir: Path, name: str, wanted: str) -> Artefact | None:
  """Returns a finished artefact, in its place or set aside, None without.

  Args:
    workdir: The run's folder.
    name: The stage.
    wanted: The fingerprint.

  Raises:
    DataError: It is damaged, or a newer version wrote it.
  """
  for folder in (workdir / name, _aside(workdir, name, wanted)):
    if artefact := _read_if(folder, wanted):
      return artefact
  return None


def read_artefact(workdir: Path, name: str) -> Artefact | None:
  """Returns what a stage left, None if it did not finish.

  Raises:
    DataError: It is damaged, or a newer version wrote it.
  """
  folder = workdir / name
  return record.read(folder, thorough=True) if record.exists(folder) else None


def superseded(workdir: Path, names: Sequence[str]) -> list[str]:
  """Returns the folders of stages that other configurations left, by name."""
  pattern = re.compile(
    rf'({"|".join(map(re.escape, names))})\.(partial-)?[0-9a-f]{{8}}'
  )
  found = (path.name for path in workdir.iterdir() if path.is_dir())
  return sorted(filter(pattern.fullmatch, found))


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Makes a run's folder, and keeps a second process out of it.

  Where the file system has no locks, a warning says so.

  Raises:
    UsageError: Another process is at work there, the folder holds something
      that is not a run, or it is not writable.
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
  # Neither follows a link nor changes what is there.
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
  except BaseException:
    # The user must hear what stopped the stage, not of a full disk.
    with contextlib.suppress(OSError):
      files.write(clock, str(before + time.monotonic() - start).encode())
    raise
  seconds = before + time.monotonic() - start
  record.write(partial, wanted, seconds, about)


def _read_seconds(clock: Path) -> float:
  """Returns what earlier calls took; 0 where a power cut left no number."""
  try:
    seconds = float(files.read(clock, 100))
  except (OSError, ValueError):
    return 0.0
  return seconds if 0 <= seconds < math.inf else 0.0


def _put_in_place(
  made: Path, final: Path, current: Artefact | None
) -> Artefact:
  """Gives a finished stage its name, and sets aside what had it."""
  # They do not describe what the folder holds from here on.
  (final.parent / RESULTS).unlink(missing_ok=True)
  (made / 'seconds').unlink(missing_ok=True)
  if current:
    final.rename(_aside(final.parent, final.name, current.fingerprint))
  # A kill here leaves a whole partial folder, which the next call finds.
  made.rename(final)
  files.sync(final.parent)
  return record.read(final)


def _refuse_what_is_in_the_way(
  workdir: Path, name: str, current: Artefact | None
) -> None:
  """Raises DataError where a stage could not be put in its place later."""
  place = workdir / name
  if current:
    place = _aside(workdir, name, current.fingerprint)
  if place.is_symlink() or place.exists():
    raise DataError(
      f'{place} is in the way: remove or rename it, or choose another --workdir'
    )


def _remove_partials(workdir: Path, name: str) -> None:
  """Removes what interrupted calls of a stage left, whatever their config."""
  for path in workdir.glob(f'{name}.partial-*'):
    is_ours = re.fullmatch(
      rf'{re.escape(name)}\.partial-[0-9a-f]{{8}}', path.name
    )
    if is_ours and path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)


def _find(workdirs: Sequence[Path], name: str, wanted: str) -> Artefact | None:
  """Returns what is wanted from the first folder that has it.

  What is damaged is passed over, and so is what is moved away meanwhile.
  """
  for workdir in workdirs:
    with contextlib.suppress(OSError, DataError):
      if found := _read_if(workdir / name, wanted):
        return found
  return None


def _is_whole(partial: Path, wanted: str) -> bool:
  """Returns whether only the name of a stage was left to give."""
  with contextlib.suppress(OSError, DataError):
    return _read_if(partial, wanted) is not None
  return False


def _read_if(folder: Path, wanted: str) -> Artefact | None:
  """Returns a stage if it has the fingerprint, every byte of it checked."""
  if record.exists(folder) and record.read(folder).fingerprint == wanted:
    return record.read(folder, thorough=True)
  return None


def _aside(workdir: Path, name: str, fingerprint: str) -> Path:
  return workdir / f'{name}.{fingerprint[:8]}'


def _tell(text: str) -> None:
  # A closed stderr must not end a run.
  with contextlib.suppress(OSError, ValueError, AttributeError):
    print(text, file=sys.stderr, flush=True)
