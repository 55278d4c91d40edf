"""The folder of a run: what each stage made, and whether it still holds."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import fcntl
import hashlib
import json
from pathlib import Path
import shutil
import time
from typing import Any, NamedTuple

from tiger_jax.errors import DataError, UsageError

_RECORD = 'stage.json'
# Seconds between two looks at what another process is making.
_PATIENCE = 0.2


class Artefact(NamedTuple):
  """What a finished stage left.

  Attributes:
    folder: Where.
    fingerprint: Of everything it was made from.
    seconds: How long it took, earlier calls that were interrupted included,
      the time between them not.
    about: What the stage recorded about its making.
  """

  folder: Path
  fingerprint: str
  seconds: float
  about: dict[str, Any]


def fingerprint(*parts: Any) -> str:
  """Returns the sha256 of JSON values."""
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digests(*paths: str | Path) -> list[list[str]]:
  """Returns the name and the sha256 of files, or of all files in folders.

  Part of the fingerprint of a stage that reads them, so that it runs again
  when they change. A missing file has no digest; the stage will complain.
  """
  digests = []
  for path in map(Path, filter(None, paths)):
    files = sorted(path.rglob('*')) if path.is_dir() else [path]
    for file in files:
      if file.is_file():
        with file.open('rb') as opened:
          digest = hashlib.file_digest(opened, 'sha256').hexdigest()
        digests.append([file.name, digest])
  return digests


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

  The stage works in a folder of its own, which takes the stage's name when all
  is written. What another configuration made is set aside under the beginning
  of its fingerprint and comes back when that configuration does.

  Args:
    workdir: The run's folder.
    name: The stage.
    wanted: Fingerprint of everything the stage reads.
    build: Writes the artefact into the folder it is given, and returns what to
      record in `about` beside the rest, or None.
    about: Recorded beside the fingerprint.
    resumable: Whether `build` goes on with what an interrupted call left;
      otherwise that is removed.
    elsewhere: Other runs' folders. What is wanted and one of them has is not
      made again, but is read there.

  Returns:
    The artefact, and whether it was made just now.

  Raises:
    DataError: Something that no run made stands where the artefact goes.
  """
  final = workdir / name
  found = read_artefact(workdir, name)
  if found and found.fingerprint == wanted:
    return found, False
  if other := _find(elsewhere, name, wanted):
    return other, False
  if found:
    aside = _aside(workdir, name, found.fingerprint)
    shutil.rmtree(aside, ignore_errors=True)
    final.rename(aside)
  elif final.exists():
    raise DataError(
      f'{final} is in the way, and no run of this program made it: choose '
      'another --workdir'
    )
  earlier = _aside(workdir, name, wanted)
  if earlier.exists():
    earlier.rename(final)
    return _read(final), False

  partial = partial_folder(workdir, name, wanted)
  if not resumable:
    shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True, exist_ok=True)
  clock = partial / 'seconds'
  before = float(clock.read_text()) if clock.exists() else 0.0
  start = time.monotonic()
  try:
    about = about | (build(partial) or {})
  except BaseException:
    # Of what stopped the stage the user must hear, not of a disk that is full.
    with contextlib.suppress(OSError):
      _write_text(clock, str(before + time.monotonic() - start))
    raise
  seconds = before + time.monotonic() - start
  _write_text(clock, str(seconds))
  record = {'fingerprint': wanted, 'seconds': seconds, 'about': about}
  _write_text(partial / _RECORD, json.dumps(record, indent=2))
  partial.rename(final)
  # Last, or a kill before the rename would lose the time spent so far.
  (final / clock.name).unlink()
  return _read(final), True


def partial_folder(workdir: Path, name: str, wanted: str) -> Path:
  """Returns where a stage is made, before it has its name."""
  return workdir / f'{name}.partial-{wanted[:8]}'


def await_stage(
  workdir: Path, name: str, wanted: str, elsewhere: Sequence[Path] = ()
) -> Artefact:
  """Returns what another process makes or finds, when it is there."""
  while True:
    if found := _find((workdir, *elsewhere), name, wanted):
      return found
    time.sleep(_PATIENCE)


def find_artefact(workdir: Path, name: str, wanted: str) -> Artefact | None:
  """Returns a finished artefact, in its place or set aside, None without.

  Args:
    workdir: The run's folder.
    name: The stage.
    wanted: The fingerprint.

  Raises:
    DataError: Its record is damaged.
  """
  for folder in (workdir / name, _aside(workdir, name, wanted)):
    if (folder / _RECORD).exists():
      artefact = _read(folder)
      if artefact.fingerprint == wanted:
        return artefact
  return None


def _find(workdirs: Sequence[Path], name: str, wanted: str) -> Artefact | None:
  """Returns what is wanted from the first folder that has it.

  What is damaged is passed over, and so is what is moved away meanwhile.
  """
  for workdir in workdirs:
    with contextlib.suppress(OSError, DataError):
      found = read_artefact(workdir, name)
      if found and found.fingerprint == wanted:
        return found
  return None


def read_artefact(workdir: Path, name: str) -> Artefact | None:
  """Returns what a stage left, None if it did not finish.

  Raises:
    DataError: Its record is damaged.
  """
  folder = workdir / name
  return _read(folder) if (folder / _RECORD).exists() else None


def write_json(path: Path, value: Any) -> None:
  """Writes JSON so that it is never read half written."""
  _write_text(path, json.dumps(value, indent=2) + '\n')


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Keeps a second process out of a run's folder.

  Raises:
    UsageError: Another process is at work there.
  """
  with (workdir / '.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UsageError(
        f'another run is at work in {workdir}: wait for it, or choose another '
        '--workdir'
      ) from error
    yield


def _read(folder: Path) -> Artefact:
  try:
    record = json.loads((folder / _RECORD).read_text())
    found = Artefact(
      folder,
      record['fingerprint'],
      float(record['seconds']),
      dict(record['about']),
    )
    if not isinstance(found.fingerprint, str):
      raise TypeError('the fingerprint is not text')
    return found
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(
      f'{folder / _RECORD} is damaged ({error}): remove {folder} and run again'
    ) from error


def _aside(workdir: Path, name: str, print_: str) -> Path:
  return workdir / f'{name}.{print_[:8]}'


def _write_text(path: Path, text: str) -> None:
  aside = path.with_name(path.name + '.partial')
  aside.write_text(text)
  aside.replace(path)
