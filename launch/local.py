"""Runs tiger_jax in several processes on this machine.

  python launch/local.py --processes=2 -- --config=configs/quickstart.py

What follows `--` goes to `tiger_jax.main`, to all of them.
"""

import argparse
from collections.abc import Sequence
import os
import signal
import socket
import subprocess
import sys
import threading
import time

# JAX has the others end by themselves, with a message, within this time.
_GRACE_SECONDS = 60


def launch(
  command: Sequence[str],
  num_processes: int,
  devices: int | None = None,
  grace_seconds: float = _GRACE_SECONDS,
) -> int:
  """Runs a command in several processes that find each other.

  SIGTERM and Ctrl-C go to all of them. When one has failed, the others are
  ended by force after a while.

  Args:
    command: What each of them runs.
    num_processes: How many.
    devices: Virtual CPU devices of each; None leaves the devices as they are.
    grace_seconds: How long the others may take after one has failed.

  Returns:
    The exit code of the process that failed first, 0 where none did.
  """
  environment = os.environ | {
    'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{_free_port()}',
    'JAX_NUM_PROCESSES': str(num_processes),
  }
  if devices:
    environment |= {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
    }
  running = [
    subprocess.Popen(
      command,
      env=environment | {'JAX_PROCESS_ID': str(i)},
      stdout=subprocess.PIPE if i else None,
      stderr=subprocess.STDOUT if i else None,
      text=True,
      # Ctrl-C reaches them from here, once.
      start_new_session=True,
    )
    for i in range(num_processes)
  ]
  readers = [
    threading.Thread(target=_tell, args=(process, i))
    for i, process in enumerate(running)
    if i
  ]
  for reader in readers:
    reader.start()

  def hand_on(number: int, unused_frame: object) -> None:
    for process in running:
      process.send_signal(number)

  before = {
    number: signal.signal(number, hand_on)
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    return _await(running, grace_seconds)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    for reader in readers:
      reader.join()


def _await(running: list[subprocess.Popen], grace_seconds: float) -> int:
  failed, deadline = 0, float('inf')
  while any(process.poll() is None for process in running):
    time.sleep(0.05)
    codes = [process.poll() for process in running]
    if not failed and (failed := next(filter(None, codes), 0)):
      deadline = time.monotonic() + grace_seconds
    if time.monotonic() > deadline:
      for process in running:
        process.kill()
  failed = failed or next(filter(None, (p.returncode for p in running)), 0)
  # Of a process that a signal ended, what a shell would say.
  return failed if failed >= 0 else 128 - failed


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
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument(
    '--devices', type=int, help='virtual CPU devices of each process'
  )
  parser.add_argument('flags', nargs='*', help='flags of tiger_jax.main')
  given = parser.parse_args()
  command = [sys.executable, '-m', 'tiger_jax.main', *given.flags]
  command.append('--distributed')
  sys.exit(launch(command, given.processes, given.devices))


if __name__ == '__main__':
  main()
