"""Coordinates the processes of one run, which are usually on several hosts."""

import hashlib
import json
import os
from pathlib import Path
import secrets
import signal
import socket
import threading
import time
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from tiger_jax.errors import PeerError, UsageError
from tiger_jax.runtime.printing import warn
from tiger_jax.storage import files

# If a process sends no heartbeat for this time, the other processes end.
_HEARTBEAT_SECONDS = 30
# All processes must connect within this time.
_CONNECT_SECONDS = 60
# A network file system shows new files to other hosts within this time.
_FILE_SECONDS = 30


def join() -> None:
  """Connects this process to the other processes of the run.

  On Cloud TPU, Slurm and Open MPI, JAX detects the other processes. Elsewhere,
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID describe them.
  If the processes do not connect in time, this process ends with the exit code
  of PeerError.

  Raises:
    UsageError: The other processes are not known.
  """
  arguments: dict[str, Any] = {
    'num_processes': _number('JAX_NUM_PROCESSES'),
    'process_id': _number('JAX_PROCESS_ID'),
  }
  if address := os.environ.get('JAX_COORDINATOR_ADDRESS', ''):
    arguments['coordinator_bind_address'] = _bind_address(
      address, arguments['process_id'] == 0
    )
  # Ends the process before the timeout of JAX, because JAX would then print a
  # stack trace.
  watchdog = threading.Timer(_CONNECT_SECONDS, _give_up)
  watchdog.daemon = True
  watchdog.start()
  try:
    jax.distributed.initialize(
      **arguments,
      initialization_timeout=2 * _CONNECT_SECONDS,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    raise UsageError(
      f'--distributed is set, but the other processes are not known ({error}): '
      'set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID'
    ) from error
  finally:
    watchdog.cancel()
  # Replaces the handler of JAX, which only records the signal.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _number(name: str) -> int | None:
  text = os.environ.get(name, '')
  if text and not text.isdecimal():
    raise UsageError(f'{name} is {text!r}: set it to a number')
  return int(text) if text else None


def _bind_address(address: str, is_main: bool) -> str | None:
  """Checks the coordinator's address, and returns the address to listen on.

  An invalid address would end JAX with a segmentation fault. None means the
  default of JAX, which listens on all networks without authentication, even if
  the coordinator's address is local.
  """
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise UsageError(
      f'JAX_COORDINATOR_ADDRESS is {address!r}: set it to the host of process '
      '0 and a free port, as in 10.0.0.1:1234'
    )
  if 'JAX_COORDINATOR_BIND_ADDRESS' in os.environ:
    return None
  is_local = host in ('127.0.0.1', 'localhost')
  if is_main:
    try:
      socket.create_server(('127.0.0.1' if is_local else '', int(port))).close()
    except OSError as error:
      raise UsageError(
        f'JAX_COORDINATOR_ADDRESS is {address!r}, where process 0 cannot '
        f'listen ({os.strerror(error.errno or 0)}): choose another port'
      ) from error
  return f'127.0.0.1:{port}' if is_local else None


def _give_up() -> None:
  warn(
    f'error: the other processes did not answer within {_CONNECT_SECONDS} s: '
    'start JAX_NUM_PROCESSES processes with the same JAX_COORDINATOR_ADDRESS'
  )
  os._exit(PeerError.exit_code)


def is_main() -> bool:
  """Returns whether this is the main process, which prints and writes files."""
  return jax.process_index() == 0


def spans_processes(mesh: Mesh) -> bool:
  """Returns whether a mesh has devices of several processes."""
  return len({device.process_index for device in mesh.devices.flat}) > 1


def from_main(value: int, mesh: Mesh) -> int:
  """Broadcasts a value of the main process to all processes of a mesh."""
  return broadcast_from_main(value) if spans_processes(mesh) else value


def broadcast_from_main(value: int) -> int:
  """Broadcasts a value of the main process to all processes of the run."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def require_same(values: dict[str, Any], remedy: str) -> None:
  """Raises UsageError in all processes if their values differ.

  All processes must call this.

  Args:
    values: JSON values by name, with the same names in all processes.
    remedy: The last part of the message, which says what to do.
  """
  if jax.process_count() == 1:
    return
  digests = [
    hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    for value in values.values()
  ]
  local = np.frombuffer(b''.join(digests), np.uint32).reshape(len(values), -1)
  gathered = np.asarray(multihost_utils.process_allgather(local))
  differs = (gathered != gathered[0]).any(-1)
  for process, flags in enumerate(differs):
    names = [name for name, flag in zip(values, flags, strict=True) if flag]
    if names:
      raise UsageError(
        f'process {process} differs from process 0 in {" and ".join(names)}: '
        f'{remedy}'
      )


def require_shared(folder: Path, flag: str = '--workdir') -> None:
  """Raises UsageError in all processes if they do not share a folder.

  The main process writes a random number into a file, and the other processes
  read the file. All processes must call this. `flag` is the flag of the folder,
  for the message.
  """
  if jax.process_count() == 1:
    return
  path = folder / '.shared'
  number = secrets.randbits(31)
  if is_main():
    files.write(path, str(number).encode())
  try:
    number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
    content = _await_content(path, str(number).encode())
    require_same(
      {f'folder {folder}': content},
      f'choose a folder for {flag} on a file system that all hosts share',
    )
  finally:
    if is_main():
      path.unlink(missing_ok=True)


def _await_content(path: Path, expected: bytes) -> str:
  """Waits a limited time for the expected content; returns the content."""
  end = time.monotonic() + _FILE_SECONDS
  while True:
    try:
      content = files.read(path, 100)
    except (OSError, ValueError):
      content = b''
    if content == expected or time.monotonic() > end:
      return content.decode(errors='replace')
    time.sleep(0.1)


class AnyProcess:
  """Reports to all processes whether any process has set its flag."""

  def __init__(self, mesh: Mesh):
    """Uses the processes with devices in the mesh."""
    self._is_shared = spans_processes(mesh)
    self._mesh = mesh
    self._pending: jax.Array | None = None

  def __call__(self, flag: bool) -> bool:
    """Returns whether the flag of any process was set.

    All processes must call this, and all get the same result. With several
    processes, the result is about the flags of the previous call, so that no
    process waits for the others.
    """
    if not self._is_shared:
      return flag
    before, self._pending = self._pending, self._reduce(flag)
    return before is not None and bool(before.addressable_data(0))

  def _reduce(self, flag: bool) -> jax.Array:
    sharded = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
    flags = jax.make_array_from_callback(
      (self._mesh.size,), sharded, lambda index: np.full(1, flag)
    )
    replicated = NamedSharding(self._mesh, PartitionSpec())
    return jax.jit(jnp.any, out_shardings=replicated)(flags)
