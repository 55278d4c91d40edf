"""Runs commands in new processes, as a user types them."""

from collections.abc import Sequence
import os
from pathlib import Path
import subprocess
import sys
from typing import NamedTuple

from tests.small import ROOT


class Outcome(NamedTuple):
  """The result of a command.

  Attributes:
    code: The exit code, or the negative number of the signal that ended it.
    out: The text on stdout.
    err: The text on stderr.
  """

  code: int
  out: str
  err: str

  @property
  def refusal(self) -> str:
    """The error message. Fails unless it is the only line on stderr."""
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
  """Runs Python with these arguments. The process can import the project."""
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
  """Runs a bash script. `$python` is the path of this Python."""
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
  """Returns the environment variables of a command on one CPU device."""
  inherited: Sequence[str] = (
    'PATH', 'LANG', 'LC_ALL', 'OPENBLAS_CORETYPE',
    # Set by tests/conftest.py.
    'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS',
  )  # fmt: skip
  return {
    name: os.environ[name] for name in inherited if name in os.environ
  } | {
    'HOME': str(home),
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    # Small runs spend most of their time on compilation, so it is cached.
    'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.pytest_cache/d/typed'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }


def interrupt_import(folder: Path, module: str) -> None:
  """Makes a process receive Ctrl-C when it imports a module.

  Args:
    folder: The first folder on the PYTHONPATH of the process.
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
