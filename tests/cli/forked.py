"""Runs the program in forks of a process that has imported JAX.

Starting Python and importing JAX takes seconds. A fork takes a fraction of a
second. Each fork has its own arguments, working directory and streams.
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
# `amazon2014` is listed because `cli` imports only the data source of a run.
_IMPORTED = (
  'tests.cli.forked', 'tiger_jax.cli', 'tiger_jax.data.sources.amazon2014',
)  # fmt: skip


def start(home: Path) -> None:
  """Starts the process to fork, in the environment of `typed.run`."""
  _CONTEXT.set_forkserver_preload(list(_IMPORTED))
  with mock.patch.dict(os.environ, typed.environment(home)):
    forkserver.ensure_running()


def run(arguments: Sequence[str], cwd: Path, streams: Path) -> typed.Outcome:
  """Runs `python -m tiger_jax.main` with these arguments.

  Args:
    arguments: The command line.
    cwd: The working directory.
    streams: An existing folder for the files of stdout and stderr.
  """
  paths = (streams / 'out', streams / 'err')
  process = _CONTEXT.Process(target=_run_main, args=(arguments, cwd, paths))
  process.start()
  process.join(_TIMEOUT)
  if process.exitcode is None:
    process.kill()
    process.join()
  out, err = (x.read_text(encoding='utf-8', errors='replace') for x in paths)
  return typed.Outcome(process.exitcode, out, err)


def _run_main(
  arguments: Sequence[str], cwd: Path, paths: tuple[Path, Path]
) -> None:
  """Runs the program in this process, with stdout and stderr in files."""
  os.chdir(cwd)
  for number, path in enumerate(paths, 1):
    os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
  sys.argv = ['main.py', *arguments]
  main.run()
