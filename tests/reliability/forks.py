"""Runs the program in forks of a process that has imported everything.

  python -m tests.reliability.forks

Starting Python and importing JAX takes longer than a small run. This server
does both only once, and forks for every run. The server has no JAX devices or
threads. Each fork runs `tiger_jax.main` with the faults of its request.
"""

from collections.abc import Sequence
import gc
import json
import os
from pathlib import Path
import re
import selectors
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from tests.reliability import faults

ROOT = Path(__file__).parents[2]
# A run takes seconds. A run that hangs is killed after this time.
_TIMEOUT_SECONDS = 300


class Outcome(NamedTuple):
  """The outcome of a run.

  Attributes:
    code: The exit code, negative for a signal.
    out: The output on stdout.
    err: The output on stderr.
    trace: The trace, see `faults`.
    seconds: The duration.
  """

  code: int
  out: str
  err: str
  trace: list[str]
  seconds: float

  @property
  def in_save(self) -> bool:
    """Whether the run ended while it wrote or removed a checkpoint."""
    begun, ended = (
      sum(line.startswith(f'save.{x} ') for line in self.trace)
      for x in ('begin', 'end')
    )
    return begun > ended

  @property
  def stage(self) -> str:
    """The stage in which the run ended; empty between two stages."""
    stage = ''
    for line in self.trace:
      if match := re.fullmatch(r'stage\.(begin|end) (\w+)', line):
        stage = match[2] if match[1] == 'begin' else ''
    return stage

  @property
  def message(self) -> str:
    """The last line of stderr."""
    return (self.err.splitlines() or [''])[-1]


class Forks:
  """Runs the program in forked processes, one at a time."""

  def __init__(self, cache: Path):
    """Starts the server.

    Args:
      cache: The folder for compiled programs.
    """
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'tests.reliability.forks'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      cwd=ROOT,
      env=environment(cache),
      text=True,
    )

  def run(
    self,
    workdir: Path,
    flags: Sequence[str],
    triggers: Sequence[faults.Trigger] = (),
    patches: Sequence[Sequence[Any]] = (),
    num_devices: int = 1,
    cache: Path | None = None,
  ) -> Outcome:
    """Runs the program.

    Args:
      workdir: The workdir of the run.
      flags: The flags except `--workdir`.
      triggers: The faults to inject.
      patches: The functions of `faults` to call before the run. Each entry is a
        function name followed by the arguments.
      num_devices: The number of virtual devices.
      cache: The folder for compiled programs; None for that of the server.
    """
    request = {
      'workdir': str(workdir),
      'flags': list(flags),
      'triggers': list(triggers),
      'patches': list(patches),
      'num_devices': num_devices,
      'cache': str(cache) if cache else None,
    }
    self._process.stdin.write(json.dumps(request) + '\n')
    self._process.stdin.flush()
    return Outcome(**json.loads(self._process.stdout.readline()))

  def close(self) -> None:
    """Stops the server."""
    self._process.communicate()


def environment(cache: Path) -> dict[str, str]:
  """Returns the environment variables of a process of the program."""
  return os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }


def _serve() -> None:
  from tiger_jax import cli, main  # noqa: F401
  from tiger_jax.config import command_line  # noqa: F401

  # The garbage collector of a fork would otherwise copy shared memory pages.
  gc.freeze()
  for line in sys.stdin:
    request = json.loads(line)
    start = time.monotonic()
    pipes = {name: os.pipe() for name in ('out', 'err', 'trace')}
    pid = os.fork()
    if not pid:
      _become(request, {name: ends[1] for name, ends in pipes.items()})
    for _, written in pipes.values():
      os.close(written)
    texts = _collect({name: ends[0] for name, ends in pipes.items()}, pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    outcome = Outcome(
      code,
      texts['out'],
      texts['err'],
      texts['trace'].splitlines(),
      time.monotonic() - start,
    )
    print(json.dumps(outcome._asdict()), flush=True)


def _become(request: dict[str, Any], ends: dict[str, int]) -> None:
  """Runs the program in this process, and exits."""
  import jax

  from tiger_jax import main

  os.dup2(ends['out'], 1)
  os.dup2(ends['err'], 2)
  jax.config.update('jax_num_cpu_devices', request['num_devices'])
  if request['cache']:
    jax.config.update('jax_compilation_cache_dir', request['cache'])
  sys.argv = ['main.py', f'--workdir={request["workdir"]}', *request['flags']]
  faults.install(request, ends['trace'])
  main.main()
  sys.exit()


def _collect(ends: dict[str, int], pid: int) -> dict[str, str]:
  """Reads pipes to the end. Pipes still work if the disk is full."""
  texts = dict.fromkeys(ends, b'')
  deadline = time.monotonic() + _TIMEOUT_SECONDS
  with selectors.DefaultSelector() as selector:
    for name, end in ends.items():
      selector.register(end, selectors.EVENT_READ, name)
    while selector.get_map():
      if time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
        texts['err'] += b'\nhung'
        deadline = float('inf')
      for key, _ in selector.select(1.0):
        if data := os.read(key.fd, 1 << 16):
          texts[key.data] += data
        else:
          selector.unregister(key.fd)
          os.close(key.fd)
  return {name: text.decode(errors='replace') for name, text in texts.items()}


if __name__ == '__main__':
  _serve()
