"""A server in a thread of the test, and a client without dependencies."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import time
from typing import Any, NamedTuple

from tiger_jax.serving.server import serve
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.server.models import Models
from tiger_jax.serving.server.settings import Settings
from tiger_jax.serving.server.state import State

ADMIN_TOKEN = 'admin-token-of-the-tests'
# The deadlines are long, because the machine of the tests may be busy.
SETTINGS = Settings(
  port=0,
  admin_port=0,
  admin_token=ADMIN_TOKEN,
  max_batch=8,
  max_queued=16,
  timeout_ms=60_000,
  body_seconds=1,
  settle_seconds=0,
)


class Reply(NamedTuple):
  """A response: its status, its JSON or text, and its headers."""

  status: int
  body: Any
  headers: dict[str, str]

  @property
  def code(self):
    """The code of an error. Fails unless the response is a complete error."""
    assert set(self.body) == {'code', 'message'}, self.body
    assert self.body['message'] and '\n' not in self.body['message']
    return self.body['code']


@dataclasses.dataclass
class Live:
  """A running server."""

  state: State
  port: int
  admin_port: int
  stop: Any

  def ask(self, method, path, body=None, *, headers=None, admin=False):
    """Sends a request. A body that is not bytes is sent as JSON."""
    headers = dict(headers or {})
    if admin:
      headers.setdefault('Authorization', f'Bearer {ADMIN_TOKEN}')
    if body is not None and not isinstance(body, bytes):
      body = json.dumps(body).encode()
    if body is not None:
      headers.setdefault('Content-Type', 'application/json')
    port = self.admin_port if admin else self.port
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    with contextlib.closing(connection):
      connection.request(method, path, body, headers)
      response = connection.getresponse()
      content = response.read().decode()
    fields = {k.lower(): v for k, v in response.getheaders()}
    # The response to HEAD has no content.
    if content and fields.get('content-type') == 'application/json':
      content = json.loads(content)
    return Reply(response.status, content, fields)

  def recommend(self, history, k=10, **fields):
    """Asks for recommendations."""
    body = {'history': history, 'k': k} | fields
    return self.ask('POST', '/v1/recommend', body)

  def admin(self, method, path, body=None):
    """Sends an admin request with the token."""
    return self.ask(method, path, body, admin=True)

  def connect(self):
    """Opens a socket to the public port."""
    return socket.create_connection(('127.0.0.1', self.port), timeout=30)


def until(condition):
  """Waits until a condition is true."""
  deadline = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.005)


@contextlib.contextmanager
def serving(shop, root, settings=SETTINGS, name='first'):
  """Serves a Recommender until the end of the block, and then drains."""
  metrics = Metrics()
  state = State(
    settings, Models(name, shop, root, metrics, settings.max_batch), metrics
  )
  sockets = [serve.bind('127.0.0.1', 0)]
  if settings.admin_token:
    sockets.append(serve.bind('127.0.0.1', 0))
  ports = [x.getsockname()[1] for x in sockets]
  for bound in sockets:
    bound.listen(128)
  loop, stopped = asyncio.new_event_loop(), asyncio.Event()
  thread = threading.Thread(
    target=lambda: loop.run_until_complete(serve.run(state, sockets, stopped))
  )
  thread.start()

  def stop():
    loop.call_soon_threadsafe(stopped.set)
    thread.join(60)
    assert not thread.is_alive()

  server = Live(state, ports[0], ports[-1], stop)
  try:
    server.ask('GET', '/livez')
    # Waits until the server has compiled the programs for new items. This is
    # the first change, and changes run one after another.
    asyncio.run_coroutine_threadsafe(state.change(int), loop).result(60)
    yield server
  finally:
    if thread.is_alive():
      stop()
    loop.close()
