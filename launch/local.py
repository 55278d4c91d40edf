"""Runs tiger_jax in several processes on this machine.

  python launch/local.py --processes=2 -- --config=configs/quickstart.py

Every process runs `tiger_jax.main` with the flags after `--`.
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

# If a process fails, JAX prints a message and ends the other processes in less
# than this time.
_GRACE_SECONDS = 60
# Asks the kernel to send SIGTERM when the parent dies (PR_SET_PDEATHSIG of
# prctl(2)), and then runs the command. If the parent is dead already, ends
# instead.
_END_WITH_PARENT = """
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
  """Runs a command in several JAX processes.

  SIGTERM, Ctrl-C and SIGHUP are forwarded to all processes. If one process
  fails, the others are killed after a grace period. At the end, the launcher
  also kills all processes that these processes started. On Linux, the processes
  get SIGTERM if the launcher is killed.

  Args:
    command: The command of every process.
    num_processes: Number of processes.
    devices: Virtual CPU devices per process; None uses the real devices.
    grace_seconds: Time that the other processes have to end after a failure.

  Returns:
    The exit code of the first process that failed, or 0.
  """
  address = f'127.0.0.1:{_free_port()}'
  environment = os.environ | {
    'JAX_COORDINATOR_ADDRESS': address,
    # By default, JAX listens on all networks without authentication.
    'JAX_COORDINATOR_BIND_ADDRESS': address,
    'JAX_NUM_PROCESSES': str(num_processes),
  }
  if devices is not None:
    environment |= {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
    }
  # The received signals. `_await` forwards them, because they may arrive before
  # all processes have started.
  signals: list[int] = []
  numbers = [signal.SIGTERM, signal.SIGINT]
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it.
    numbers.append(signal.SIGHUP)
  old_handlers = {
    number: signal.signal(number, lambda number, _: signals.append(number))
    for number in numbers
  }
  running: list[subprocess.Popen] = []
  readers: list[threading.Thread] = []
  try:
    for index in range(num_processes):
      process = subprocess.Popen(
        _with_parent_signal(command),
        env=environment | {'JAX_PROCESS_ID': str(index)},
        stdout=subprocess.PIPE if index else None,
        stderr=subprocess.STDOUT if index else None,
        text=True,
        errors='replace',
        # Ctrl-C must reach the processes only once, forwarded from here.
        start_new_session=True,
      )
      running.append(process)
      if index:
        reader = threading.Thread(target=_print_lines, args=(process, index))
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
    for number, handler in old_handlers.items():
      signal.signal(number, handler)


def _with_parent_signal(command: Sequence[str]) -> list[str]:
  """Wraps a command so that it gets SIGTERM when this process is killed.

  Only Linux supports this; elsewhere the command is returned unchanged.
  """
  if not sys.platform.startswith('linux'):
    return list(command)
  if shutil.which(command[0]) is None:
    raise FileNotFoundError(f'there is no command {command[0]}')
  # `preexec_fn` would be unsafe, because this process has threads.
  return [sys.executable, '-ISc', _END_WITH_PARENT, str(os.getpid()), *command]


def _await(
  running: list[subprocess.Popen], signals: list[int], grace_seconds: float
) -> int:
  """Forwards signals until all processes end, or the grace period is over."""
  failed, deadline = 0, float('inf')
  while True:
    codes = [process.poll() for process in running]
    if not failed and (failed := next(filter(None, codes), 0)):
      deadline = time.monotonic() + grace_seconds
    if None not in codes or time.monotonic() > deadline:
      # As in shells, the exit code is 128 plus the signal that ended a process.
      return failed if failed >= 0 else 128 - failed
    while signals:
      number = signals.pop(0)
      for process in running:
        process.send_signal(number)
    time.sleep(0.05)


def _print_lines(process: subprocess.Popen, index: int) -> None:
  """Prints the output of a process, with its index before each line."""
  assert process.stdout is not None
  with process.stdout:
    for line in process.stdout:
      print(f'[{index}] {line}', end='', flush=True)


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def main() -> None:
  """Parses the command line and launches the processes."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--processes', type=_count, default=2)
  parser.add_argument(
    '--devices', type=_count, help='virtual CPU devices per process'
  )
  parser.add_argument('flags', nargs='*', help='flags of tiger_jax.main')
  args = parser.parse_args()
  command = [sys.executable, '-m', 'tiger_jax.main', *args.flags]
  command.append('--distributed')
  sys.exit(launch(command, args.processes, args.devices))


def _count(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a positive integer')
  return int(text)


if __name__ == '__main__':
  main()
