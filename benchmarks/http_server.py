"""Starts HTTP servers in separate processes."""

from collections.abc import Iterator, Sequence
import contextlib
import http.client
import json
from pathlib import Path
import re
import subprocess
import sys
import time
from typing import Any

_TOKEN = 'token-of-the-benchmark'
_SERVER = """
from pathlib import Path
import sys
from tiger_jax.runtime import compile_cache
from tiger_jax.serving.server.serve import serve
from tiger_jax.serving.server.settings import Settings
compile_cache.use()
serve(Path(sys.argv[1]), Settings(
  port=0, admin_port=0, admin_token=sys.argv[2], max_batch=int(sys.argv[3])))
"""


class Server:
  """A server in a separate process.

  Attributes:
    port: The public port.
    admin_port: The admin port; equal to `port` if there is no admin port.
    workdir: The folder of the served run.
    start_seconds: The seconds until the server accepted requests.
  """

  def __init__(self, command: Sequence[str], workdir: Path, num_ports: int):
    """Starts the server, and waits until it has printed its addresses."""
    start = time.monotonic()
    self.process = subprocess.Popen(
      [sys.executable, *command],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    assert self.process.stdout
    ports: list[int] = []
    for line in self.process.stdout:
      if match := re.match(r'serving at http://127\.0\.0\.1:(\d+)', line):
        ports.append(int(match[1]))
      if len(ports) == num_ports:
        break
    else:
      raise RuntimeError(f'{command[:2]} did not start')
    self.port, self.admin_port = ports[0], ports[-1]
    self.workdir = workdir
    self.start_seconds = time.monotonic() - start

  def ask(self, method: str, path: str, body: Any, admin: bool = False) -> Any:
    """Sends a request, and returns the JSON of the response."""
    port = self.admin_port if admin else self.port
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
    headers = {
      'Content-Type': 'application/json',
      'Authorization': f'Bearer {_TOKEN}',
    }
    with contextlib.closing(connection):
      connection.request(method, path, json.dumps(body), headers)
      response = connection.getresponse()
      content = json.loads(response.read())
    if response.status != 200:
      raise RuntimeError(f'{method} {path}: {content}')
    return content

  @property
  def memory(self) -> float:
    """The resident memory of the process, in MiB."""
    status = Path(f'/proc/{self.process.pid}/status').read_text()
    return int(re.search(r'VmRSS:\s+(\d+)', status)[1]) / 1024

  def stop(self) -> None:
    """Stops the server, which must exit with code 0."""
    self.process.terminate()
    if self.process.wait(60):
      raise RuntimeError(f'the server exited with {self.process.returncode}')


@contextlib.contextmanager
def running(workdir: Path, max_batch: int = 32) -> Iterator[Server]:
  """Runs our server."""
  command = ('-c', _SERVER, str(workdir), _TOKEN, str(max_batch))
  server = Server(command, workdir, num_ports=2)
  try:
    yield server
  finally:
    server.stop()


@contextlib.contextmanager
def running_peer(peer: str, workdir: Path) -> Iterator[Server]:
  """Runs a server of another library, see `benchmarks/peers/server.py`."""
  command = ('-m', 'benchmarks.peers.server', peer, str(workdir))
  server = Server(command, workdir, num_ports=1)
  try:
    yield server
  finally:
    server.process.kill()
    server.process.wait()
