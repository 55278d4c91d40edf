"""Runs the program in forks of a process that has imported everything.

To start Python and to import JAX takes seconds. A fork has its own arguments,
folder and streams, and takes a fraction of a second.
"""

from collections.abc import Sequence
import multiprocessing
from multiprocessing import forkserver
import os
from pathlib import Path
import sys
from unittest import mock

from tests import typed
from tiger_jax import main

_CONTEXT = multiprocessing.get_context('forkserver')
_TIMEOUT = 100
# `tiger_jax.cli` imports sources of data only when they are used.
_IMPORTED = (
  'tests.cli.forked', 'tiger_jax.cli', 'tiger_jax.data.sources.amazon2014',
)  # fmt: skip


def start(home: Path) -> None:
  """Starts the process that forks, with the environment of `typed`."""
  _CONTEXT.set_forkserver_preload(list(_IMPORTED))
  with mock.patch.dict(os.environ, typed.environment(home)):
    forkserver.ensure_running()


def run(arguments: Sequence[str], cwd: Path, streams: Path) -> typed.Outcome:
  """Runs `python -m tiger_jax.main` with these arguments.

  Args:
    arguments: The command line.
    cwd: The current folder.
    streams: An existing folder for what the program prints.
  """
  ends = (streams / 'out', streams / 'err')
  process = _CONTEXT.Process(target=_become, args=(arguments, cwd, ends))
  process.start()
  process.join(_TIMEOUT)
  if process.exitcode is None:
    process.kill()
    process.join()
  out, err = (end.read_text(encoding='utf-8', errors='replace') for end in ends)
  return typed.Outcome(process.exitcode, out, err)


def _become(
  arguments: Sequence[str], cwd: Path, ends: tuple[Path, Path]
) -> None:
  """Turns this process into the program."""
  os.chdir(cwd)
  for number, end in enumerate(ends, 1):
    os.dup2(os.open(end, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
  sys.argv = ['main.py', *arguments]
  main.run()
