"""Builds, finds and replaces the stages in the folder of a run.

An artifact is the folder of a finished stage. The current artifact of a stage
has the name of the stage, such as `train`. If the config changes, the artifact
is set aside: the first eight digits of its fingerprint are appended to its
name, as in `train.0123abcd`. It is used again when the config is changed back.
"""

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

from tiger_jax.errors import CheckpointError, DataError, UsageError
from tiger_jax.storage import files, record
from tiger_jax.storage.claim import LOCK, claim, refuse_link
from tiger_jax.storage.os_errors import describe
from tiger_jax.storage.record import Artifact

RESULTS = 'results.json'
REPORT = 'report.html'
# The errors of `flock` on file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def run_stage(
  workdir: Path,
  name: str,
  wanted: str,
  build: Callable[[Path], dict[str, Any] | None],
  *,
  metadata: dict[str, Any],
  resumable: bool = False,
  elsewhere: Sequence[Path] = (),
) -> tuple[Artifact, bool]:
  """Returns the artifact of a stage, and builds it if it does not exist.

  The artifact is built in a partial folder. When all files are on disk, the
  current artifact is set aside and the partial folder is renamed. The caller
  must hold the lock of the run's folder.

  Args:
    workdir: The folder of the run.
    name: The name of the stage.
    wanted: The fingerprint of everything that the stage reads.
    build: A function that writes the artifact to a folder, and returns more
      JSON to record in `metadata`, or None.
    metadata: JSON to record with the fingerprint.
    resumable: Whether `build` resumes from the files of an interrupted call.
      Otherwise, these files are removed first.
    elsewhere: Folders of other runs. Their artifacts with the wanted
      fingerprint are used, too.

  Returns:
    The artifact, and whether this call built it.

  Raises:
    UsageError: The folder of the stage is a link.
    DataError: An artifact is damaged or was made by a newer version, its name
      is taken by a different file or folder, or the file system failed.
  """
  final, partial = workdir / name, partial_folder(workdir, name, wanted)
  try:
    for folder in (final, partial, _aside(workdir, name, wanted)):
      refuse_link(folder)
    if artifact := _read_if(final, wanted):
      return artifact, False
    if artifact := _find([x / name for x in elsewhere], wanted):
      return artifact, False
    current = record.read(final) if record.exists(final) else None
    _refuse_blocked_name(workdir, name, current)
    if artifact := _read_if(_aside(workdir, name, wanted), wanted):
      return _put_in_place(artifact.folder, final, current), False
    # If the partial folder is complete, an earlier call was killed before the
    # rename.
    is_new = not _find([partial], wanted)
    if is_new:
      if not resumable:
        _remove_partials(workdir, name)
      _build(partial, wanted, build, metadata)
    return _put_in_place(partial, final, current), is_new
  except BrokenPipeError:
    raise  # The terminal was closed; the stage itself has not failed.
  except OSError as error:
    raise DataError(f'stage {name}: {describe(error, workdir)}') from error


def partial_folder(workdir: Path, name: str, wanted: str) -> Path:
  """Returns the path of the folder in which a stage is built."""
  return workdir / f'{name}.partial-{wanted[:8]}'


def await_stage(
  workdir: Path,
  name: str,
  wanted: str,
  elsewhere: Sequence[Path] = (),
  *,
  poll_seconds: float = 0.2,
  quiet_seconds: float = 5.0,
) -> Artifact:
  """Waits until another process has built an artifact, and returns it.

  The wait is announced after `quiet_seconds`.
  """
  start, is_announced = time.monotonic(), False
  while True:
    if artifact := _find([x / name for x in (workdir, *elsewhere)], wanted):
      return artifact
    if not is_announced and time.monotonic() - start > quiet_seconds:
      is_announced = True
      _tell(f'waiting for the main process to finish {workdir / name}')
    time.sleep(poll_seconds)


def find_artifact(workdir: Path, name: str, wanted: str) -> Artifact | None:
  """Returns an artifact, current or set aside; None if there is none.

  Raises:
    DataError: The artifact is damaged, or a newer version wrote it.
  """
  for folder in (workdir / name, _aside(workdir, name, wanted)):
    if artifact := _read_if(folder, wanted):
      return artifact
  return None


def read_artifact(workdir: Path, name: str) -> Artifact | None:
  """Returns the current artifact of a stage; None if there is none.

  Raises:
    DataError: The artifact is damaged, or a newer version wrote it.
  """
  folder = workdir / name
  return record.read(folder, thorough=True) if record.exists(folder) else None


def superseded(workdir: Path, names: Sequence[str]) -> list[str]:
  """Returns the names of partial folders and of artifacts set aside."""
  pattern = re.compile(
    rf'({"|".join(map(re.escape, names))})\.(partial-)?[0-9a-f]{{8}}'
  )
  folders = (path.name for path in workdir.glob('*') if path.is_dir())
  return sorted(filter(pattern.fullmatch, folders))


@contextlib.contextmanager
def locked(
  workdir: Path,
  claim: Callable[[Path], None] = claim,
  flag: str = '--workdir',
) -> Iterator[None]:
  """Creates the folder of a run, and locks it.

  If the body raises an error before it writes a file, the folders and the lock
  that this function created are removed. If the file system has no locks, a
  warning is printed.

  Args:
    workdir: The folder.
    claim: A function that creates the folder, and refuses it if it must not be
      written to.
    flag: The flag that names the folder, for error messages.

  Raises:
    UsageError: Another process uses the folder, the folder holds something
      other than a run, or it is not writable.
  """
  lock = workdir / LOCK
  parents = (workdir, *workdir.parents)
  created = [x for x in (lock, *parents) if not os.path.exists(x)]
  claim(workdir)
  with _open_lock(lock, flag) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if not os.fstat(file.fileno()).st_nlink:
        raise BlockingIOError  # The process that created the file removed it.
    except BlockingIOError as error:
      raise UsageError(
        f'another process uses {workdir}: wait until it ends, or choose '
        f'another {flag}'
      ) from error
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      _tell(
        f'{workdir} is on a file system without locks: make sure that no other '
        'run uses it at the same time'
      )
    try:
      yield
    except BaseException:
      # An OSError here must not hide the original error.
      with contextlib.suppress(OSError):
        if lock in created and os.listdir(workdir) == [LOCK]:
          lock.unlink()
          for folder in created[1:]:
            folder.rmdir()
      raise


def _open_lock(path: Path, flag: str) -> Any:
  # With these flags, no link is followed and no existing file is changed.
  flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
  refuse_link(path, flag)
  try:
    file = open(os.open(path, flags, 0o666), 'rb')
  except OSError as error:
    raise UsageError(describe(error, path)) from error
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    file.close()
    raise UsageError(f'{path} is not a regular file: choose another {flag}')
  return file


def _build(
  partial: Path,
  wanted: str,
  build: Callable[[Path], dict[str, Any] | None],
  metadata: dict[str, Any],
) -> None:
  """Builds a stage in its partial folder, and writes its record."""
  partial.mkdir(parents=True, exist_ok=True)
  for path in partial.rglob('*'):
    refuse_link(path)
  clock = partial / 'seconds'
  before = _read_seconds(clock)
  start = time.monotonic()
  try:
    metadata = metadata | (build(partial) or {})
  except BaseException as error:
    # An OSError here must not hide the original error.
    with contextlib.suppress(OSError):
      if isinstance(error, UsageError | DataError) and not any(
        partial.iterdir()
      ):
        partial.rmdir()  # The input was refused before a file was written.
      else:
        files.write(clock, str(before + time.monotonic() - start).encode())
    raise
  seconds = before + time.monotonic() - start
  record.write(partial, wanted, seconds, metadata)


def _read_seconds(clock: Path) -> float:
  """Returns the seconds of interrupted calls; 0 if the file has no number."""
  try:
    seconds = float(files.read(clock, 100))
  except (OSError, ValueError):
    return 0.0
  return seconds if 0 <= seconds < math.inf else 0.0


def input_folder(trained: Artifact, name: str) -> Path:
  """Returns the folder of a stage that a model was trained with.

  The folder may have been renamed since, if a newer stage replaced it.

  Args:
    trained: The artifact of the stage `train`.
    name: The name of the stage to find.

  Raises:
    CheckpointError: The stage is missing.
  """
  workdir, fingerprint = trained.folder.parent, str(trained.metadata.get(name))
  stage = None
  # The fingerprint becomes part of a path.
  if re.fullmatch('[0-9a-f]{64}', fingerprint):
    stage = find_artifact(workdir, name, fingerprint)
  if stage is None:
    raise CheckpointError(
      f'{workdir / name} is missing, or is not what the model in '
      f'{trained.folder} was trained with: run --mode=all with '
      f'--workdir={workdir}'
    )
  return stage.folder


def _put_in_place(
  finished: Path, final: Path, current: Artifact | None
) -> Artifact:
  """Sets the current artifact aside, and gives its name to a finished one."""
  # These files were computed from the current artifact.
  for name in (RESULTS, REPORT):
    (final.parent / name).unlink(missing_ok=True)
  (finished / 'seconds').unlink(missing_ok=True)
  if current:
    final.rename(_aside(final.parent, final.name, current.fingerprint))
  # If the process is killed here, the next call renames the finished folder.
  finished.rename(final)
  files.sync(final.parent)
  return record.read(final)


def _refuse_blocked_name(
  workdir: Path, name: str, current: Artifact | None
) -> None:
  """Raises DataError if a file or folder has a name that a rename needs."""
  path = workdir / name
  if current:
    path = _aside(workdir, name, current.fingerprint)
  if path.is_symlink() or path.exists():
    raise DataError(
      f'{path} is in the way: remove or rename it, or choose another --workdir'
    )


def _remove_partials(workdir: Path, name: str) -> None:
  """Removes all partial folders of a stage, of any config."""
  for folder_name in superseded(workdir, [name]):
    path = workdir / folder_name
    if folder_name.startswith(f'{name}.partial-') and not path.is_symlink():
      shutil.rmtree(path)


def _find(folders: Sequence[Path], wanted: str) -> Artifact | None:
  """Returns the first intact artifact with the fingerprint, or None."""
  for folder in folders:
    # Skips artifacts that are damaged, or that are just being renamed.
    with contextlib.suppress(OSError, DataError):
      if artifact := _read_if(folder, wanted):
        return artifact
  return None


def _read_if(folder: Path, wanted: str) -> Artifact | None:
  """Returns the artifact in a folder if it has the fingerprint, or None."""
  if record.exists(folder) and record.read(folder).fingerprint == wanted:
    return record.read(folder, thorough=True)
  return None


def _aside(workdir: Path, name: str, fingerprint: str) -> Path:
  return workdir / f'{name}.{fingerprint[:8]}'


def _tell(text: str) -> None:
  # A run continues if stderr is closed.
  with contextlib.suppress(OSError, ValueError, AttributeError):
    print(text, file=sys.stderr, flush=True)
