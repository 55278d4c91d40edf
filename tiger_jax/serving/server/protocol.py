"""The HTTP protocol of uvicorn, with limits on headers and connections."""

import asyncio
from collections.abc import Callable
import types
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
  STATUS_LINE,
  HttpToolsProtocol,
)

from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.metrics import Metrics

# Under overload, requests for paths with this prefix are refused. The paths of
# probes do not have it.
_SHED = b'/v1/'
_BUSY = Failure('queue_full', 'too many requests at once: retry later')
# Takes the place of uvicorn's state of a request.
_ANSWERED: Any = types.SimpleNamespace(
  response_complete=True, message_event=asyncio.Event()
)


class Protocol(HttpToolsProtocol):
  """One connection.

  uvicorn limits the time between two requests. This class also limits the size
  of the headers, the time to send them, and the number of connections. Its
  error responses are JSON.

  Attributes:
    header_seconds: The time that a client has to send the headers.
    max_header_bytes: The maximum size of the headers.
    max_connections: The maximum number of connections.
    dropping_seconds: The time between an error response and the end of the
      connection. Data that the client sends in this time is dropped.
  """

  header_seconds: float = 5
  max_header_bytes: int = 2**14
  max_connections: int = 1000
  dropping_seconds: float = 1

  def __init__(
    self,
    *args: Any,
    metrics: Metrics,
    is_full: Callable[[int], bool],
    **kwargs: Any,
  ):
    """Creates the protocol of a connection that is not open yet.

    Args:
      *args: The arguments of uvicorn.
      metrics: The metrics of the server, which count the refusals.
      is_full: Takes the number of requests in progress, and returns whether a
        new request is refused.
      **kwargs: More arguments of uvicorn.
    """
    super().__init__(*args, **kwargs)
    self.access_log = False  # It would contain ids. `Gate` logs requests.
    self._metrics = metrics
    self._is_full = is_full
    self._is_refused = False
    self._is_in_headers = False
    # The number of parsed header bytes, and the number of bytes received while
    # the headers are incomplete. The parser reports a long header only at its
    # end, so both numbers are limited.
    self._num_parsed = self._num_received = 0
    self._header_timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    """Starts the timer of the headers, or refuses the connection."""
    super().connection_made(transport)
    self._header_timer = self.loop.call_later(self.header_seconds, self._expire)
    if len(self.connections) > self.max_connections:
      self._refuse(
        Failure('queue_full', 'too many connections are open: retry later')
      )
      self.transport.close()

  def connection_lost(self, exc: Exception | None) -> None:
    """Stops the timer."""
    self._stop_timer()
    super().connection_lost(exc)

  def data_received(self, data: bytes) -> None:
    """Parses data, unless the headers are too large."""
    if self._is_refused or self.transport.is_closing():
      return
    self._num_received += len(data)
    super().data_received(data)
    # uvicorn has stopped the timer of an idle connection.
    is_shed = self.cycle is _ANSWERED and not self.transport.is_closing()
    if is_shed and self.timeout_keep_alive_task is None:
      self.on_response_complete()
    if self._is_in_headers and self._num_received > self.max_header_bytes:
      self._refuse_headers()

  def on_url(self, url: bytes) -> None:
    """Counts the bytes of the URL."""
    self._count(len(url))
    super().on_url(url)

  def on_header(self, name: bytes, value: bytes) -> None:
    """Counts the bytes of a header."""
    self._count(len(name) + len(value))
    super().on_header(name, value)

  def on_message_begin(self) -> None:
    """Starts the timer of the headers of a request."""
    super().on_message_begin()
    self._is_in_headers = True
    self._num_parsed = self._num_received = 0
    if self._header_timer is None:
      self._header_timer = self.loop.call_later(
        self.header_seconds, self._expire
      )

  def on_headers_complete(self) -> None:
    """Stops the timer of the headers, and refuses a request under overload."""
    self._is_in_headers = False
    self._num_received = 0
    self._stop_timer()
    if self._can_be_shed() and self._is_full(len(self.tasks)):
      self._shed()
    else:
      super().on_headers_complete()

  def _can_be_shed(self) -> bool:
    """Whether the request is no probe, and no earlier one is being answered."""
    is_idle = self.cycle is None or self.cycle.response_complete
    return is_idle and self.url.startswith(_SHED)

  def _shed(self) -> None:
    """Answers a request without a task, which takes a tenth of the time.

    Under overload, most of the time would otherwise go into requests that are
    refused.
    """
    self._metrics.errors.labels(_BUSY.code).inc()
    keep_alive = self.parser.should_keep_alive()
    self.transport.write(_response(_BUSY, keep_alive))
    # uvicorn drops the body of a request that is answered already.
    self.cycle = _ANSWERED
    if not keep_alive:
      self.transport.close()

  def send_400_response(self, msg: str) -> None:
    """Answers a request that is not HTTP, or whose headers are too large."""
    if self._num_parsed > self.max_header_bytes:
      self._refuse_headers()
    else:
      self._refuse(Failure('invalid_http', 'the request is not valid HTTP'))

  def _count(self, num_bytes: int) -> None:
    self._num_parsed += num_bytes
    if self._num_parsed > self.max_header_bytes:
      # The parser stops, and uvicorn calls `send_400_response`.
      raise ValueError('the headers are too large')

  def _expire(self) -> None:
    self._header_timer = None
    if self._is_in_headers:
      self._refuse(Failure('slow_client', 'the headers took too long'))
    else:
      self.transport.close()

  def _stop_timer(self) -> None:
    if self._header_timer is not None:
      self._header_timer.cancel()
      self._header_timer = None

  def _refuse_headers(self) -> None:
    self._refuse(Failure('too_large', 'the headers are too large'))

  def _refuse(self, failure: Failure) -> None:
    """Sends an error, and closes the connection after a pause.

    If the connection closed at once, a client that is still sending could lose
    the response.
    """
    self._stop_timer()
    if self._is_refused or self.transport.is_closing():
      return
    self._is_refused = True
    self._metrics.errors.labels(failure.code).inc()
    self.transport.write(_response(failure, keep_alive=False))
    self.loop.call_later(self.dropping_seconds, self.transport.close)


def _response(failure: Failure, keep_alive: bool) -> bytes:
  """Returns an error as the bytes of a response."""
  headers = failure.headers | {
    'content-type': 'application/json',
    'content-length': str(len(failure.body)),
  }
  if not keep_alive:
    headers['connection'] = 'close'
  lines = [f'{name}: {value}\r\n' for name, value in headers.items()]
  head = STATUS_LINE[failure.status] + ''.join(lines).encode() + b'\r\n'
  return head + failure.body
