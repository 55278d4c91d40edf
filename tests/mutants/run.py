"""Runs the mutants: breaks a copy of the code in one place at a time.

A mutant is killed if its tests fail. Two mutants run at a time, in two copies
of the checkout. The checkout itself is not changed.
"""

import argparse
from collections.abc import Callable, Sequence
import difflib
import importlib
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tests.mutants.mutant import Mutant

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_WORKERS = 2
# The interpreter for tests of the Beam pipelines, which need other packages.
_BEAM = ROOT / '.venv-beam' / 'bin' / 'python'
# Seconds. The tests of a mutant take less than a minute.
_TIMEOUT = 600.0
_SUMMARY = re.compile(r'^(?:FAILED|ERROR) .*', re.MULTILINE)
# Errors of changed code that cannot run. Any test would detect such a change.
_CANNOT_RUN = re.compile(
  r' - (SyntaxError|IndentationError|NameError|ImportError|ModuleNotFoundError)'
)


class Job(NamedTuple):
  """One change and its tests.

  Attributes:
    number: The number of the mutant; 0 for the unchanged code.
    mutant: The change; None for the unchanged code.
    text: The text of the mutant's file after the change.
    tests: The arguments of pytest.
  """

  number: int
  mutant: Mutant | None
  text: str
  tests: Sequence[str]


class Result(NamedTuple):
  """The outcome of the tests of a job.

  Attributes:
    job: The job.
    outcome: `killed`, `survived`, or `broken` if the tests did not run.
    seconds: The duration of the tests.
    reason: The line of pytest that names the failure, or a sentence that says
      why there is no such line.
  """

  job: Job
  outcome: str
  seconds: float
  reason: str


class _Refused(Exception):
  """The mutants cannot be run; the message is one line."""


class _Stopped(BaseException):
  """SIGINT, SIGHUP or SIGTERM was received."""


def all_mutants() -> list[Mutant]:
  """Returns the mutants of all modules of this folder, by module name."""
  names = sorted(path.stem for path in FOLDER.glob('*.py'))
  return [
    mutant
    for name in names
    if name not in ('mutant', 'run') and not name.startswith('test_')
    for mutant in importlib.import_module(f'tests.mutants.{name}').MUTANTS
  ]


def changed_text(mutant: Mutant, root: Path) -> str:
  """Returns the text of a mutant's file after the change.

  Args:
    mutant: The change.
    root: The checkout.

  Raises:
    ValueError: The old text does not occur exactly once.
  """
  text = (root / mutant.file).read_text(encoding='utf-8')
  if (count := text.count(mutant.old)) != 1:
    raise ValueError(
      f'mutant {mutant.what!r}: its old text occurs {count} times in '
      f'{mutant.file}: make it occur once'
    )
  return text.replace(mutant.old, mutant.new)


def main() -> int:
  """Runs the mutants that the flags select; returns the exit code."""
  parser = argparse.ArgumentParser(prog='make mutants')
  parser.add_argument('--only', default='', help='numbers, as in 3,7')
  only = parser.parse_args().only
  for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(name, _stop)
  try:
    return _run(_select(only))
  except _Refused as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except _Stopped:
    return 130


def _stop(*unused: object) -> None:
  raise _Stopped


def _select(only: str) -> list[Job]:
  mutants = dict(enumerate(all_mutants(), 1))
  numbers = [x.strip() for x in only.split(',')] if only else [*mutants]
  if not mutants:
    raise _Refused(f'no module in {FOLDER} has mutants')
  jobs = {}
  for number in map(str, numbers):
    if not number.isdecimal() or int(number) not in mutants:
      raise _Refused(
        f'{number!r} is not the number of a mutant: choose from 1 to '
        f'{len(mutants)}, as in ONLY=3,7'
      )
    mutant = mutants[int(number)]
    try:
      text = changed_text(mutant, ROOT)
    except (OSError, ValueError) as error:
      raise _Refused(str(error)) from error
    jobs[int(number)] = Job(int(number), mutant, text, mutant.tests.split())
  selected = [jobs[number] for number in sorted(jobs)]
  if _BEAM.exists():
    return selected
  without = [job for job in selected if not _needs_beam(job.tests[0])]
  if num_skipped := len(selected) - len(without):
    print(
      f'mutants: {num_skipped} of the Beam pipelines are skipped, because '
      f'{_BEAM.relative_to(ROOT)} is missing (see docs/scale.md)'
    )
  return without


def _needs_beam(test: str) -> bool:
  return test.startswith('tests/beam/')


def _run(jobs: list[Job]) -> int:
  """Tests the unchanged code, then every mutant; returns the exit code."""
  results: list[Result] = []

  def report(result: Result) -> None:
    results.append(result)
    _show(result)

  with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
    root = Path(folder).resolve()
    copies = [_copy(root / str(i)) for i in range(_WORKERS)]
    print(
      f'mutants: {len(jobs)}; first, the tests of the unchanged code',
      flush=True,
    )
    _run_all(copies, _unchanged(jobs), _refuse_failure)
    _run_all(copies, jobs, report)
  results.sort(key=lambda x: x.job.number)
  for result in results:
    if result.outcome != 'killed':
      print(f'\n{result.job.number} {result.outcome}: {result.reason}')
      print(_diff(result.job))
  killed = sum(result.outcome == 'killed' for result in results)
  print(f'killed {killed} of {len(results)}')
  return int(killed < len(results))


def _unchanged(jobs: Sequence[Job]) -> list[Job]:
  """Distributes all tests over the copies, whole files at a time."""
  by_file: dict[str, dict[str, None]] = {}
  for job in jobs:
    for test in job.tests:
      by_file.setdefault(test.partition('::')[0], {})[test] = None
  jobs_of_all = []
  for beam in (False, True):
    shares = [[*by_file[x]] for x in by_file if _needs_beam(x) == beam]
    jobs_of_all += [
      Job(0, None, '', sum(shares[i::_WORKERS], []))
      for i in range(min(_WORKERS, len(shares)))
    ]
  return jobs_of_all


def _refuse_failure(result: Result) -> None:
  if result.outcome != 'survived':
    raise _Refused(f'a test of the unchanged code fails: {result.reason}')


def _show(result: Result) -> None:
  job = result.job
  assert job.mutant
  line = f'{job.number:3} {result.outcome:8} {result.seconds:4.0f} s'
  print(f'{line}  {job.mutant.what}: {result.reason:.160}', flush=True)


def _diff(job: Job) -> str:
  assert job.mutant
  name = job.mutant.file
  before = (ROOT / name).read_text(encoding='utf-8').splitlines()
  after = job.text.splitlines()
  return '\n'.join(
    difflib.unified_diff(before, after, name, name, n=1, lineterm='')
  )


def _copy(copy: Path) -> Path:
  """Copies the files of the checkout that git does not ignore."""
  try:
    listed = subprocess.run(
      ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
      cwd=ROOT,
      check=True,
      capture_output=True,
    ).stdout.decode()
  except (OSError, subprocess.CalledProcessError) as error:
    raise _Refused(
      f'git cannot list the files of {ROOT}: install git and use a clone'
    ) from error
  for name in listed.split('\0'):
    if (ROOT / name).is_file():  # Git also lists files that were deleted.
      (copy / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(ROOT / name, copy / name)
  copy.with_suffix('.tmp').mkdir()
  imported = subprocess.run(
    [sys.executable, '-c', 'import tiger_jax; print(tiger_jax.__file__)'],
    cwd=copy,
    env=_environment(copy),
    check=True,
    capture_output=True,
  ).stdout.decode()
  if not Path(imported.strip()).resolve().is_relative_to(copy):
    raise _Refused(f'tiger_jax comes from {imported.strip()}, not from {copy}')
  return copy


def _environment(copy: Path) -> dict[str, str]:
  return os.environ | {
    'PYTHONPATH': str(copy),
    'PYTEST_ADDOPTS': '',
    'TMPDIR': str(copy.with_suffix('.tmp')),
    # Pytest cuts the lines of its summary to the width of the terminal.
    'COLUMNS': '500',
  }


def _run_all(
  copies: Sequence[Path],
  jobs: Sequence[Job],
  report: Callable[[Result], object],
) -> None:
  """Runs one job at a time in each copy, and reports every result."""
  waiting, free = list(jobs), list(copies)
  running: list[_Tests] = []
  try:
    while waiting or running:
      while waiting and free:
        running.append(_Tests(free.pop(), waiting.pop(0)))
      time.sleep(0.1)
      for tests in list(running):
        if result := tests.result():
          running.remove(tests)
          free.append(tests.copy)
          report(result)
  finally:
    for tests in running:
      tests.kill()


class _Tests:
  """The tests of a job, running in a copy."""

  def __init__(self, copy: Path, job: Job):
    self.copy = copy
    self._job = job
    self._start = time.monotonic()
    if job.mutant:
      path = copy / job.mutant.file
      self._original = path.read_bytes(), path.stat().st_mtime_ns
      path.write_text(job.text, encoding='utf-8')
      # Python recompiles a file if its time or size has changed. The number of
      # the mutant serves as a time that no other mutant has.
      os.utime(path, (job.number, job.number))
    with copy.with_suffix('.output').open('wb') as output:
      self._process = subprocess.Popen(
        [
          str(_BEAM) if _needs_beam(job.tests[0]) else sys.executable,
          '-m', 'pytest', '-x', '-q', '-rfE',
          # All runs share the compilation cache. Its keys are hashes of the
          # programs, so a mutant never runs the original program.
          '-o', f'cache_dir={ROOT / ".pytest_cache" / "mutants"}',
          *job.tests,
        ],
        cwd=copy,
        env=_environment(copy),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # So that `kill` also ends children.
      )  # fmt: skip

  def result(self) -> Result | None:
    """Restores the copy and returns the result; None while the tests run."""
    code = self._process.poll()
    seconds = time.monotonic() - self._start
    # A job of the unchanged code runs the tests of many mutants, so it has no
    # time limit.
    if code is None and (seconds < _TIMEOUT or not self._job.mutant):
      return None
    self.kill()
    if mutant := self._job.mutant:
      path = self.copy / mutant.file
      content, changed = self._original
      path.write_bytes(content)
      os.utime(path, ns=(changed, changed))
    output = self.copy.with_suffix('.output').read_text(errors='replace')
    failures = _SUMMARY.findall(output)
    reason = failures[0] if failures else f'pytest ended with code {code}'
    outcome = 'broken'
    if code is None:
      reason = f'the tests did not end in {_TIMEOUT:.0f} s'
    elif code == 0:
      outcome, reason = 'survived', 'its tests pass'
    elif code == 1 and failures and not _CANNOT_RUN.search(reason):
      outcome = 'killed'
    return Result(self._job, outcome, seconds, reason)

  def kill(self) -> None:
    """Kills the tests and their child processes."""
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    self._process.wait()


if __name__ == '__main__':
  sys.exit(main())
