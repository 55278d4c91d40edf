"""The HTTP protocol of uvicorn, with limits for slow and greedy clients."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
  STATUS_LINE,
  HttpToolsProtocol,
)

from tiger_jax.serving.server.failures import Failure


class Protocol(HttpToolsProtocol):
  """One connection.

  uvicorn limits the time between two requests. This class also limits the time
  and the size of the headers, and the number of connections. Its own errors are
  JSON, as all others.

  Attributes:
    header_seconds: The time that a client has to send the headers.
    max_header_bytes: The maximum size of the headers.
    max_connections: The maximum number of connections.
  """

  header_seconds: float = 5
  max_header_bytes: int = 2**14
  max_connections: int = 1000

  def __init__(self, *args: Any, **kwargs: Any):
    """Creates the protocol of a connection that is not open yet."""
    super().__init__(*args, **kwargs)
    self.access_log = False  # It would contain ids; `Gate` has its own.
    self._num_bytes = 0
    self._is_in_headers = True
    self._header_timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport: asyncio.Transport) -> None:
    """Starts the timer of the headers, or refuses the connection."""
    super().connection_made(transport)
    self._header_timer = self.loop.call_later(self.header_seconds, self._expire)
    if len(self.connections) > self.max_connections:
      self._refuse(
        Failure('queue_full', 'too many connections are open: retry later')
      )

  def connection_lost(self, exc: Exception | None) -> None:
    """Stops the timer."""
    self._stop_timer()
    super().connection_lost(exc)

  def data_received(self, data: bytes) -> None:
    """Parses data, unless the headers are too large."""
    if self.transport.is_closing():
      return
    super().data_received(data)
    if self._is_in_headers:
      self._num_bytes += len(data)
      if self._num_bytes > self.max_header_bytes:
        self._refuse(Failure('too_large', 'the headers are too large'))

  def on_message_begin(self) -> None:
    """Starts the timer of the headers of a request."""
    super().on_message_begin()
    self._is_in_headers = True
    self._num_bytes = 0
    if self._header_timer is None:
      self._header_timer = self.loop.call_later(
        self.header_seconds, self._expire
      )

  def on_headers_complete(self) -> None:
    """Stops the timer of the headers."""
    self._is_in_headers = False
    self._stop_timer()
    super().on_headers_complete()

  def send_400_response(self, msg: str) -> None:
    """Answers a request that is not HTTP."""
    self._refuse(Failure('invalid_http', 'the request is not valid HTTP'))

  def _expire(self) -> None:
    self._header_timer = None
    if self._num_bytes:
      self._refuse(Failure('slow_client', 'the headers took too long'))
    else:
      self.transport.close()

  def _stop_timer(self) -> None:
    if self._header_timer is not None:
      self._header_timer.cancel()
      self._header_timer = None

  def _refuse(self, failure: Failure) -> None:
    self._stop_timer()
    if self.transport.is_closing():
      return
    lines = [STATUS_LINE[failure.status]]
    lines += [b'content-type: application/json\r\n', b'connection: close\r\n']
    lines.append(b'content-length: %d\r\n\r\n' % len(failure.body))
    self.transport.write(b''.join([*lines, failure.body]))
    self.transport.close()
