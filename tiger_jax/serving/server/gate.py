"""Checks each request before the endpoint runs, and then records it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
import hmac
import logging
import re
import time
import traceback
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tiger_jax.errors import UsageError
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.metrics import Metrics

log = logging.getLogger('tiger_jax.access')

_PROBES = ('/livez', '/readyz')
# The endpoints that a draining server still answers.
_WHILE_DRAINING = (*_PROBES, '/metrics', '/admin/drain')
_LOCAL = ('localhost', '127.0.0.1', '[::1]')
_PORT = re.compile(r':\d*$')
_HEADERS = [
  (
    b'content-security-policy',
    b"default-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'; object-src 'none'",
  ),
  (b'x-content-type-options', b'nosniff'),
  (b'referrer-policy', b'no-referrer'),
  (b'cache-control', b'no-store'),
]
# If a body is too large, the gate reads and drops up to this many bytes, for up
# to this many seconds, so that the client can read the response.
_MAX_DROPPED = 2**23
_DROP_SECONDS = 1.0
_BROKEN = 'the server failed: see the log of the server'
Endpoint = Callable[[Request], Awaitable[Response]]


class _Gone(Exception):
  """The client has closed the connection."""


class Gate:
  """An ASGI application that checks requests for another application.

  The gate limits the size of a body and the time to send it. It also checks the
  token and the host. The log and the metrics contain the endpoint, the status
  and the time of a request, and never the content.
  """

  def __init__(
    self,
    app: FastAPI,
    metrics: Metrics,
    *,
    token: str | None,
    host: str,
    max_body: int,
    body_seconds: float,
    is_draining: Callable[[], bool] = lambda: False,
    searches: Mapping[str, Endpoint] | None = None,
  ):
    """Creates the gate.

    Args:
      app: The application with the endpoints.
      metrics: The metrics of the server.
      token: The bearer token that each request needs, except for probes; None
        if no token is needed. Without a token, the Host header must name this
        machine, so that other websites cannot use the server through a browser.
      host: The address of the server.
      max_body: The maximum number of bytes of a body.
      body_seconds: The time that a client has to send the body.
      is_draining: Returns whether new requests are refused.
      searches: The endpoints that search, by their paths. They are called
        without the router of FastAPI, which takes longer than all other work of
        the event loop for a request.
    """
    self._app = app
    self._metrics = metrics
    self._token = token
    self._hosts = {*_LOCAL, host} if token is None else None
    self._max_body = max_body
    self._body_seconds = body_seconds
    self._is_draining = is_draining
    self._searches = searches or {}
    self.num_in_flight = 0

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    """Handles a request."""
    if scope['type'] != 'http':  # Startup and shutdown.
      await self._app(scope, receive, send)
      return
    start = time.monotonic()
    scope.setdefault('state', {})['start'] = start
    path = scope['path']
    status = 0

    async def record(message: Any) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
        message = message | {'headers': [*message['headers'], *_HEADERS]}
      await send(message)

    self.num_in_flight += 1
    try:
      self._check(scope, path)
      search = self._searches.get(path) if scope['method'] == 'POST' else None
      receive = await self._with_body(scope, receive)
      if search:
        response = await self._while_connected(search, scope, receive)
        await response(scope, receive, record)
      else:
        await self._app(scope, receive, record)
    except Failure as failure:
      await self._fail(failure, scope, receive, record)
    except UsageError as error:
      failure = Failure('invalid_request', str(error))
      await self._fail(failure, scope, receive, record)
    except _Gone:
      status = 499
    except Exception as error:
      # The error message is not logged, because it may contain item ids.
      log.error('%s at %s', type(error).__name__, _place(error))
      if not status:
        await Failure('internal', _BROKEN).response()(scope, receive, record)
    finally:
      self.num_in_flight -= 1
      self._record(scope, status, time.monotonic() - start)

  async def _fail(
    self, failure: Failure, scope: Any, receive: Any, send: Any
  ) -> None:
    self._metrics.errors.labels(failure.code).inc()
    await failure.response()(scope, receive, send)

  def _check(self, scope: Any, path: str) -> None:
    """Refuses a request if its headers are not acceptable."""
    headers = dict(scope['headers'])
    if self._hosts is not None:
      host = headers.get(b'host', b'localhost').decode('latin-1').lower()
      if _PORT.sub('', host) not in self._hosts:
        raise Failure(
          'invalid_host',
          'without a token, the server is only for this machine: use '
          'http://127.0.0.1, or start the server with a token',
        )
    elif path not in _PROBES:
      given = headers.get(b'authorization', b'')
      expected = b'Bearer ' + (self._token or '').encode()
      if not hmac.compare_digest(given, expected):
        raise Failure(
          'unauthorized',
          'the token is missing or wrong: send the header "Authorization: '
          'Bearer TOKEN"',
        )
    if path in (*_PROBES, '/metrics'):
      return
    if self._is_draining() and path not in _WHILE_DRAINING:
      raise Failure('draining', 'the server is draining: use another server')
    kind = headers.get(b'content-type', b'').partition(b';')[0].strip().lower()
    if _has_body(headers) and kind != b'application/json':
      raise Failure(
        'unsupported_media_type',
        'the body must be JSON: send the header "Content-Type: '
        'application/json"',
      )

  async def _with_body(self, scope: Any, receive: Any) -> Any:
    """Reads the body, and returns a `receive` that repeats the body."""
    headers = dict(scope['headers'])
    if not _has_body(headers):
      return receive
    body = await self._body(headers, receive)
    is_sent = False

    async def again() -> dict[str, Any]:
      nonlocal is_sent
      if is_sent:
        return await receive()
      is_sent = True
      return {'type': 'http.request', 'body': body, 'more_body': False}

    return again

  async def _body(self, headers: dict[bytes, bytes], receive: Any) -> bytes:
    length = int(headers.get(b'content-length', b'0'))
    chunks: list[bytes] = []
    size = 0
    try:
      async with asyncio.timeout(self._body_seconds):
        more = length <= self._max_body
        while more and size <= self._max_body:
          chunk, more = await _next_chunk(receive)
          chunks.append(chunk)
          size += len(chunk)
    except TimeoutError as error:
      raise Failure('slow_client', 'the body took too long') from error
    if max(length, size) <= self._max_body:
      return b''.join(chunks)
    try:
      async with asyncio.timeout(_DROP_SECONDS):
        more = True
        while more and size <= _MAX_DROPPED:
          chunk, more = await _next_chunk(receive)
          size += len(chunk)
    except (TimeoutError, _Gone):
      pass
    raise Failure(
      'too_large', f'the body is too large: send at most {self._max_body} bytes'
    )

  async def _while_connected(
    self, search: Endpoint, scope: Any, receive: Any
  ) -> Response:
    """Calls an endpoint, and cancels the call if the client disconnects."""
    message = await receive()  # The body, which was already read.
    if message['type'] == 'http.disconnect':
      raise _Gone
    task = asyncio.current_task()
    assert task is not None
    is_gone = False

    async def again() -> dict[str, Any]:
      return message

    async def watch() -> None:
      nonlocal is_gone
      while (await receive())['type'] != 'http.disconnect':
        pass
      is_gone = True
      task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
      return await search(Request(scope, again))
    except asyncio.CancelledError:
      if not is_gone:
        raise
      task.uncancel()
      raise _Gone from None
    finally:
      watcher.cancel()

  def _record(self, scope: Any, status: int, seconds: float) -> None:
    endpoint = self._endpoint(scope)
    self._metrics.requests.labels(endpoint, str(status)).inc()
    self._metrics.seconds.labels(endpoint).observe(seconds)
    if endpoint not in (*_PROBES, '/metrics'):
      milliseconds = 1e3 * seconds
      log.info(
        '%s %s %d %.1f ms', scope['method'], endpoint, status, milliseconds
      )

  def _endpoint(self, scope: Any) -> str:
    """Returns the route path of a request, which contains no ids."""
    if scope['path'] in self._searches:
      return scope['path']
    matches = ((x, x.matches(scope)[0]) for x in self._app.routes)
    found = (x for x, match in matches if match is not Match.NONE)
    return getattr(next(found, None), 'path_format', 'other')


async def _next_chunk(receive: Any) -> tuple[bytes, bool]:
  message = await receive()
  if message['type'] == 'http.disconnect':
    raise _Gone
  return message.get('body', b''), message.get('more_body', False)


def _has_body(headers: dict[bytes, bytes]) -> bool:
  length = headers.get(b'content-length', b'0')
  return b'transfer-encoding' in headers or length.strip(b'0') != b''


def _place(error: Exception) -> str:
  """Returns the file and the line that raised an error."""
  frame = traceback.extract_tb(error.__traceback__)[-1]
  return f'{frame.filename}:{frame.lineno}'
