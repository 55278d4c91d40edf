"""Several processes, usually on several hosts, that make one run."""

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

# A process that is silent for so long is given up, by all others.
_HEARTBEAT_SECONDS = 30
_ARRIVAL_SECONDS = 60
# A network file system shows new files to other hosts within this time.
_SHOWN_SECONDS = 30


def join() -> None:
  """Makes this process one of those that were started for the same run.

  Cloud TPU, Slurm and Open MPI tell JAX who the others are; elsewhere
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID do. If they do
  not answer, the process ends with the exit code of PeerError.

  Raises:
    UsageError: It is not known who the others are.
  """
  arguments: dict[str, Any] = {
    'num_processes': _number('JAX_NUM_PROCESSES'),
    'process_id': _number('JAX_PROCESS_ID'),
  }
  if address := os.environ.get('JAX_COORDINATOR_ADDRESS', ''):
    arguments['coordinator_bind_address'] = _bind_address(
      address, arguments['process_id'] == 0
    )
  # JAX would end the process itself, with a stack trace, a little later.
  watchdog = threading.Timer(_ARRIVAL_SECONDS, _give_up)
  watchdog.daemon = True
  watchdog.start()
  try:
    jax.distributed.initialize(
      **arguments,
      initialization_timeout=2 * _ARRIVAL_SECONDS,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    raise UsageError(
      f'--distributed, but the other processes are not known ({error}): set '
      'JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID'
    ) from error
  finally:
    watchdog.cancel()
  # JAX has put a handler there that only takes note.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _number(name: str) -> int | None:
  text = os.environ.get(name, '')
  if text and not text.isdecimal():
    raise UsageError(f'{name} is {text!r}: set it to a number')
  return int(text) if text else None


def _bind_address(address: str, is_main: bool) -> str | None:
  """Checks the coordinator's address, and returns the address to listen on.

  For an invalid address, JAX ends with a segmentation fault. By default, which
  None stands for, JAX listens on all networks without authentication, even if
  the address is local.
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
    f'error: the other processes did not answer within {_ARRIVAL_SECONDS} s: '
    'start as many as JAX_NUM_PROCESSES says, with the same address'
  )
  os._exit(PeerError.exit_code)


def is_main() -> bool:
  """Returns whether this is the process that writes files and speaks."""
  return jax.process_index() == 0


def spans_processes(mesh: Mesh) -> bool:
  """Returns whether a mesh has devices of several processes."""
  return len({device.process_index for device in mesh.devices.flat}) > 1


def from_main(value: int, mesh: Mesh) -> int:
  """Returns the value of the main process, on all processes of a mesh."""
  return broadcast_from_main(value) if spans_processes(mesh) else value


def broadcast_from_main(value: int) -> int:
  """Returns the value of the main process, on all processes of the run."""
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def require_same(values: dict[str, Any], remedy: str) -> None:
  """Raises UsageError in all processes if their JSON values differ.

  All processes must call this, with the same names, as in "process 1 has
  another <name>". `remedy` says what to do.
  """
  if jax.process_count() == 1:
    return
  digests = [
    hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    for value in values.values()
  ]
  mine = np.frombuffer(b''.join(digests), np.uint32).reshape(len(values), -1)
  digests_of_all = np.asarray(multihost_utils.process_allgather(mine))
  differs = (digests_of_all != digests_of_all[0]).any(-1)
  for process, flags in enumerate(differs):
    differing = [x for x, y in zip(values, flags, strict=True) if y]
    if differing:
      raise UsageError(
        f'process {process} has another {" and ".join(differing)} than '
        f'process 0: {remedy}'
      )


def require_shared(folder: Path) -> None:
  """Raises UsageError in all processes if they do not share a folder.

  The main process writes a number into the folder, and the others read it. All
  processes must call this.
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
      'name a --workdir on a file system that all hosts share',
    )
  finally:
    if is_main():
      path.unlink(missing_ok=True)


def _await_content(path: Path, expected: bytes) -> str:
  """Returns the content of a file, after waiting for the expected content."""
  end = time.monotonic() + _SHOWN_SECONDS
  while True:
    try:
      content = files.read(path, 100)
    except (OSError, ValueError):
      content = b''
    if content == expected or time.monotonic() > end:
      return content.decode(errors='replace')
    time.sleep(0.1)


class AnyProcess:
  """Tells all processes when one of them has something to say."""

  def __init__(self, mesh: Mesh):
    """Remembers whose devices take part."""
    self._is_shared = spans_processes(mesh)
    self._mesh = mesh
    self._pending: jax.Array | None = None

  def __call__(self, mine: bool) -> bool:
    """Returns whether any process said yes, at the same call in all of them.

    With several processes the answer is that to the call before, so that
    nobody waits for it.
    """
    if not self._is_shared:
      return mine
    before, self._pending = self._pending, self._ask(mine)
    return before is not None and bool(before.addressable_data(0))

  def _ask(self, mine: bool) -> jax.Array:
    spread = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
    votes = jax.make_array_from_callback(
      (self._mesh.size,), spread, lambda part: np.full(1, mine)
    )
    whole = NamedSharding(self._mesh, PartitionSpec())
    return jax.jit(jnp.any, out_shardings=whole)(votes)
