"""Sends HTTP requests at fixed times, whether or not earlier ones are answered.

The process reads a job as JSON from standard input, and writes one line of JSON
for each request to standard output. The times of the requests are drawn before
the first one is sent (a Poisson process), so a slow server cannot slow down the
load. Latency is counted from the scheduled time. The lateness is the time
between the scheduled time and the moment when the request is sent.
"""

import asyncio
from collections import deque
import contextlib
import json
import random
import sys
import time
from typing import Any, NamedTuple

# The maximum number of open connections.
_MAX_CONNECTIONS = 200
# How long the process waits for the last responses.
_PATIENCE = 20.0


class Job(NamedTuple):
  """The load of one process.

  Attributes:
    port: The port of the server on 127.0.0.1.
    start: The time of the first request, by `time.time`.
    seconds: The length of the schedule.
    rate: The requests per second of the schedule; 0 for a closed loop, in which
      every connection sends its next request after the response.
    connections: The number of connections of the closed loop.
    seed: The seed of the schedule.
    bodies: The bodies of the requests, which are used in turn.
    keep: Whether to keep the bodies of the responses.
  """

  port: int
  start: float
  seconds: float
  rate: float
  connections: int
  seed: int
  bodies: list[str]
  keep: bool


class Request:
  """A request and its times, in seconds after the start of the job."""

  def __init__(self, body: bytes, scheduled: float):
    """Takes the body and the scheduled time."""
    self.body = body
    self.scheduled = scheduled
    self.sent = self.done = -1.0
    self.status = 0
    self.answer = b''
    self.answered = asyncio.Event()


class _Connection(asyncio.Protocol):
  def __init__(self, load: '_Load'):
    self._load = load
    self._buffer = b''
    self._is_used = False
    self.request: Request | None = None

  def connection_made(self, transport: Any) -> None:
    self._transport = transport

  def send(self, request: Request) -> None:
    self.request = request
    request.sent = self._load.now()
    self._transport.write(self._load.head(len(request.body)) + request.body)

  def data_received(self, data: bytes) -> None:
    self._buffer += data
    head, found, rest = self._buffer.partition(b'\r\n\r\n')
    if not found:
      return
    lower = head.lower()
    place = lower.index(b'content-length:')
    size = int(lower[place + 15 :].split(b'\r\n', 1)[0])
    if len(rest) < size or self.request is None:
      return
    request, self.request = self.request, None
    request.done = self._load.now()
    request.status = int(head[9:12])
    request.answer = rest[:size]
    request.answered.set()
    self._buffer, self._is_used = rest[size:], True
    if b'connection: close' in lower:
      self._transport.close()
    else:
      self._load.free(self)

  def connection_lost(self, exc: Exception | None) -> None:
    self._load.lost(self, self._is_used and not self._buffer)


class _Load:
  """The requests of a job, and the connections that send them."""

  def __init__(self, job: Job):
    self._job = job
    self._idle: list[_Connection] = []
    self._waiting: deque[Request] = deque()
    self._num_connections = 0
    self.requests: list[Request] = []

  def now(self) -> float:
    return time.time() - self._job.start

  @staticmethod
  def head(size: int) -> bytes:
    return (
      b'POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\n'
      b'Content-Type: application/json\r\nContent-Length: %d\r\n\r\n' % size
    )

  def ask(self, request: Request) -> None:
    """Sends a request on an idle connection, or on a new one."""
    if self._idle:
      self._idle.pop().send(request)
      return
    self._waiting.append(request)
    if self._num_connections < _MAX_CONNECTIONS:
      self._num_connections += 1
      asyncio.ensure_future(self._open())

  async def _open(self) -> None:
    loop = asyncio.get_running_loop()
    try:
      _, connection = await loop.create_connection(
        lambda: _Connection(self), '127.0.0.1', self._job.port
      )
    except OSError:
      self._num_connections -= 1
      return
    self.free(connection)

  def free(self, connection: _Connection) -> None:
    if self._waiting:
      connection.send(self._waiting.popleft())
    else:
      self._idle.append(connection)

  def lost(self, connection: _Connection, may_repeat: bool) -> None:
    self._num_connections -= 1
    if connection in self._idle:
      self._idle.remove(connection)
    request, connection.request = connection.request, None
    # The server may close an idle connection just before a request arrives.
    if request is not None and may_repeat:
      self.ask(request)

  async def run(self) -> None:
    """Sends all requests and waits for the responses."""
    if self._job.rate:
      # Opening many connections at once would delay the first requests.
      for _ in range(_MAX_CONNECTIONS):
        self._num_connections += 1
        await self._open()
    await asyncio.sleep(max(0.0, -self.now()))
    await (self._open_loop() if self._job.rate else self._closed_loop())
    end = self.now() + _PATIENCE
    while self.now() < end and any(x.done < 0 for x in self.requests):
      await asyncio.sleep(0.05)

  async def _open_loop(self) -> None:
    job = self._job
    rng = random.Random(job.seed)
    bodies = [x.encode() for x in job.bodies]
    scheduled = rng.expovariate(job.rate)
    while scheduled < job.seconds:
      body = bodies[len(self.requests) % len(bodies)]
      self.requests.append(Request(body, scheduled))
      scheduled += rng.expovariate(job.rate)
    for request in self.requests:
      wait = request.scheduled - self.now()
      if wait > 0:
        await asyncio.sleep(wait)
      self.ask(request)

  async def _closed_loop(self) -> None:
    job = self._job
    bodies = [x.encode() for x in job.bodies]

    async def client() -> None:
      while self.now() < job.seconds:
        request = Request(bodies[len(self.requests) % len(bodies)], self.now())
        self.requests.append(request)
        self.ask(request)
        with contextlib.suppress(TimeoutError):
          await asyncio.wait_for(request.answered.wait(), _PATIENCE)

    await asyncio.gather(*(client() for _ in range(job.connections)))


def main() -> None:
  """Runs the job that is read from standard input."""
  job = Job(**json.load(sys.stdin))
  load = _Load(job)
  asyncio.run(load.run())
  for x in load.requests:
    answer = x.answer.decode() if job.keep else ''
    print(json.dumps([x.scheduled, x.sent, x.done, x.status, answer]))


if __name__ == '__main__':
  main()
