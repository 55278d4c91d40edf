"""The program in a process of its own, as a person types it in a shell."""

from collections.abc import Sequence
import os
from pathlib import Path
import subprocess
import sys
from typing import NamedTuple

from tests.small import ROOT


class Outcome(NamedTuple):
  """How a command ended.

  Attributes:
    code: Its exit code, negative for a signal.
    out: What it printed.
    err: What it printed to stderr.
  """

  code: int
  out: str
  err: str

  @property
  def refusal(self) -> str:
    """The one line of an error; fails where there is more, or a traceback."""
    lines = self.err.strip().splitlines()
    assert len(lines) == 1, self.err
    assert lines[0].startswith('error: '), self.err
    assert len(lines[0]) < 1000, lines[0][:1000]
    return lines[0]


def run(
  *flags: object,
  cwd: Path,
  env: dict[str, str] | None = None,
  stdin: str | None = None,
  timeout: float = 300,
) -> Outcome:
  """Runs `python -m tiger_jax.main` with these flags."""
  return python('-m', 'tiger_jax.main', *flags, cwd=cwd, env=env,
                stdin=stdin, timeout=timeout)  # fmt: skip


def python(
  *arguments: object,
  cwd: Path,
  env: dict[str, str] | None = None,
  stdin: str | None = None,
  timeout: float = 300,
) -> Outcome:
  """Runs Python with these arguments, and the project on its path."""
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=cwd,
    env=environment(cwd) | (env or {}),
    input=stdin,
    stdin=subprocess.DEVNULL if stdin is None else None,
    capture_output=True,
    encoding='utf-8',
    errors='replace',
    timeout=timeout,
    check=False,
  )
  return Outcome(done.returncode, done.stdout, done.stderr)


def shell(
  script: str,
  *,
  cwd: Path,
  env: dict[str, str] | None = None,
  timeout: float = 300,
) -> Outcome:
  """Runs a script of bash, in which `$python` is this Python."""
  done = subprocess.run(
    ['bash', '-o', 'pipefail', '-c', script],
    cwd=cwd,
    env=environment(cwd) | {'python': sys.executable} | (env or {}),
    stdin=subprocess.DEVNULL,
    capture_output=True,
    encoding='utf-8',
    errors='replace',
    timeout=timeout,
    check=False,
  )
  return Outcome(done.returncode, done.stdout, done.stderr)


def environment(home: Path) -> dict[str, str]:
  """Returns the environment of a command: one CPU device, a home of its own."""
  kept: Sequence[str] = (
    'PATH', 'LANG', 'LC_ALL', 'OPENBLAS_CORETYPE',
    # Set by tests/conftest.py.
    'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS',
  )  # fmt: skip
  return {name: os.environ[name] for name in kept if name in os.environ} | {
    'HOME': str(home),
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    # Compilation is most of what a small run takes.
    'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.pytest_cache/d/typed'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }


def interrupt_import(folder: Path, module: str) -> None:
  """Makes Ctrl-C arrive when a process imports a module.

  Args:
    folder: The first folder of the process's PYTHONPATH.
    module: The full name of the module.
  """
  (folder / 'sitecustomize.py').write_text(
    'import os, signal, sys\n'
    'class Finder:\n'
    '  def find_spec(self, name, *unused):\n'
    f'    if name == {module!r}:\n'
    '      os.kill(os.getpid(), signal.SIGINT)\n'
    'sys.meta_path.insert(0, Finder())\n'
    'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
  )
