"""Checks the installation, the machine, and the files of a run."""

from collections.abc import Iterator
from pathlib import Path

from tiger_jax.config import Config
from tiger_jax.errors import one_line
from tiger_jax.recommenders import checks
from tiger_jax.runtime import machine
from tiger_jax.runtime.findings import PROBLEM, Finding
from tiger_jax.stages import run_files


def run(workdir: Path | None, config: Config | None) -> None:
  """Prints one line for each check.

  Args:
    workdir: The folder of a run; None to check only the machine.
    config: The settings of a run, to check its raw files; None to skip them.

  Raises:
    UsageError: The settings contradict each other.
    TigerError: There is a problem. The first one determines the error's type.
  """
  if config:
    checks.check(config)
  problems = []
  for finding in _findings(workdir, config):
    text = one_line(finding.text)
    print(f'{finding.level:>8} {finding.subject}: {text}', flush=True)
    if finding.level == PROBLEM:
      problems.append(finding)
  if problems:
    first = problems[0]
    raise first.kind(
      f'{first.subject}: {first.text}'
      + (f' (and {len(problems) - 1} more)' if len(problems) > 1 else '')
    )


def _findings(workdir: Path | None, config: Config | None) -> Iterator[Finding]:
  yield from machine.check((workdir or Path()).absolute())
  if config:
    yield from run_files.raw_files(config)
  if workdir:
    yield from run_files.check(workdir, config)
