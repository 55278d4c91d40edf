"""Runs tiger_jax in several processes on this machine.

  python launch/local.py --processes=2 -- --config=configs/quickstart.py

What follows `--` goes to `tiger_jax.main`, to all of them.
"""

import argparse
from collections.abc import Sequence
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

# JAX has the others end by themselves, with a message, within this time.
_GRACE_SECONDS = 60
# Asks for SIGTERM at the parent's death (PR_SET_PDEATHSIG of prctl(2)), which
# may have come before, and becomes the command.
_REQUEST = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
  os.kill(os.getpid(), signal.SIGTERM)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def launch(
  command: Sequence[str],
  num_processes: int,
  devices: int | None = None,
  grace_seconds: float = _GRACE_SECONDS,
) -> int:
  """Runs a command in several processes that find each other.

  SIGTERM, Ctrl-C and the end of the terminal go to all of them. When one has
  failed, the others are ended by force after a while. Nothing they started is
  left running. If this process is killed, they get SIGTERM (on Linux only).

  Args:
    command: What each of them runs.
    num_processes: How many.
    devices: Virtual CPU devices of each; None leaves the devices as they are.
    grace_seconds: How long the others may take after one has failed.

  Returns:
    The exit code of the process that failed first, 0 where none did.
  """
  address = f'127.0.0.1:{_free_port()}'
  environment = os.environ | {
    'JAX_COORDINATOR_ADDRESS': address,
    # By default, JAX listens on all networks, without authentication.
    'JAX_COORDINATOR_BIND_ADDRESS': address,
    'JAX_NUM_PROCESSES': str(num_processes),
  }
  if devices is not None:
    environment |= {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
    }
  # Only noted here: one may come before all have started.
  signals: list[int] = []
  numbers = [signal.SIGTERM, signal.SIGINT]
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # As nohup has it.
    numbers.append(signal.SIGHUP)
  before = {
    number: signal.signal(number, lambda number, _: signals.append(number))
    for number in numbers
  }
  running: list[subprocess.Popen] = []
  readers: list[threading.Thread] = []
  try:
    for index in range(num_processes):
      process = subprocess.Popen(
        _ending_with_this(command),
        env=environment | {'JAX_PROCESS_ID': str(index)},
        stdout=subprocess.PIPE if index else None,
        stderr=subprocess.STDOUT if index else None,
        text=True,
        errors='replace',
        # Ctrl-C reaches them from here, once.
        start_new_session=True,
      )
      running.append(process)
      if index:
        reader = threading.Thread(target=_tell, args=(process, index))
        reader.start()
        readers.append(reader)
    return _await(running, signals, grace_seconds)
  finally:
    for process in running:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
    for reader in readers:
      reader.join()
    for number, handler in before.items():
      signal.signal(number, handler)


def _ending_with_this(command: Sequence[str]) -> list[str]:
  """Returns a command that gets SIGTERM when this process is killed.

  Only Linux offers that; elsewhere the command is returned as it is.
  """
  if not sys.platform.startswith('linux'):
    return list(command)
  if shutil.which(command[0]) is None:
    raise FileNotFoundError(f'there is no command {command[0]}')
  # Not by `preexec_fn`, which is unsafe where this process has threads.
  return [sys.executable, '-ISc', _REQUEST, str(os.getpid()), *command]


def _await(
  running: list[subprocess.Popen], signals: list[int], grace_seconds: float
) -> int:
  """Hands signals on until all have ended, or one failed a while ago."""
  failed, deadline = 0, float('inf')
  while True:
    codes = [process.poll() for process in running]
    if not failed and (failed := next(filter(None, codes), 0)):
      deadline = time.monotonic() + grace_seconds
    if None not in codes or time.monotonic() > deadline:
      # Of a process that a signal ended, what a shell would say.
      return failed if failed >= 0 else 128 - failed
    while signals:
      number = signals.pop(0)
      for process in running:
        process.send_signal(number)
    time.sleep(0.05)


def _tell(process: subprocess.Popen, index: int) -> None:
  """Prints what a process says, each line with its number before it."""
  assert process.stdout is not None
  with process.stdout:
    for line in process.stdout:
      print(f'[{index}] {line}', end='', flush=True)


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def main() -> None:
  """Reads the command line and launches."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--processes', type=_count, default=2)
  parser.add_argument(
    '--devices', type=_count, help='virtual CPU devices of each process'
  )
  parser.add_argument('flags', nargs='*', help='flags of tiger_jax.main')
  given = parser.parse_args()
  command = [sys.executable, '-m', 'tiger_jax.main', *given.flags]
  command.append('--distributed')
  sys.exit(launch(command, given.processes, given.devices))


def _count(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a number from 1 up')
  return int(text)


if __name__ == '__main__':
  main()
