"""Tests of clients that break or stretch HTTP."""

import contextlib
import json
import re
import socket
import time

import pytest

from tiger_jax.serving.server.protocol import Protocol

POST = b'POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n'
KIND = b'Content-Type: application/json\r\n'
BODY = b'{"history": ["i101"], "k": 2}'
CHUNKED = b'Transfer-Encoding: chunked\r\n\r\n'


@pytest.fixture(name='impatient')
def _impatient(server, monkeypatch):
  """Shortens the time for headers of the shared server."""
  monkeypatch.setattr(Protocol, 'header_seconds', 0.3)


@pytest.fixture(name='short_pause', autouse=True)
def _short_pause(monkeypatch):
  """Shortens the time after a refusal."""
  monkeypatch.setattr(Protocol, 'dropping_seconds', 0.2)


def length(size):
  return b'Content-Length: %d\r\n' % size


def read(client):
  """Reads until the server closes the connection."""
  data = b''
  with contextlib.suppress(ConnectionResetError):
    while part := client.recv(65536):
      data += part
  return data


def status(data):
  return int(data.split(b' ', 2)[1]) if data else None


def code(data):
  return json.loads(data.partition(b'\r\n\r\n')[2])['code']


def works(server):
  assert server.ask('GET', '/livez').status == 200
  assert server.recommend(['i101'], 2).status == 200


@pytest.mark.parametrize(
  'data',
  [
    b'\x00\x01\x02\x03\r\n\r\n', b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    b'GET /\xff\xfe HTTP/1.1\r\n\r\n',
    b'GET / HTTP/1.1\r\nBroken header\r\n\r\n',
    POST + KIND + b'Content-Length: many\r\n\r\n' + BODY,
    POST + KIND + b'Content-Length: -5\r\n\r\n' + BODY,
    POST + KIND + length(5) + length(29) + b'\r\n' + BODY,
    POST + KIND + length(29) + CHUNKED + b'zz\r\n',
    POST + KIND + CHUNKED + b'fffffffffffffffffff\r\n' + BODY,
    POST + KIND + CHUNKED + b'5\r\nab',
    b'CONNECT shop.example:443 HTTP/1.1\r\n\r\n',
  ],
)  # fmt: skip
def test_what_is_not_http_is_refused(server, data):
  with server.connect() as client:
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    answer = read(client)
  # A client that closes its side early may get no answer, but never a 5xx.
  assert not answer or (400 <= status(answer) < 500 and code(answer))
  works(server)


def test_headers_that_take_too_long_are_refused(server, impatient):
  with server.connect() as client:
    client.sendall(POST)
    for _ in range(3):
      time.sleep(0.05)
      client.sendall(b'X-Slow: yes\r\n')
    answer = read(client)
  assert (status(answer), code(answer)) == (408, 'slow_client')
  with server.connect() as client:
    client.sendall(b'PO')
    assert code(read(client)) == 'slow_client'
  with server.connect() as client:
    assert read(client) == b''  # Nothing was sent, so nothing is answered.
  works(server)


def test_the_next_request_of_a_connection_has_a_timeout_too(server, impatient):
  with server.connect() as client:
    client.sendall(b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
    assert status(client.recv(65536)) == 200
    client.sendall(POST)
    answer = read(client)
  assert (status(answer), code(answer)) == (408, 'slow_client')


def test_a_body_that_takes_too_long_is_refused(server):
  start = time.monotonic()
  with server.connect() as client:
    client.sendall(POST + KIND + length(1000) + b'\r\n' + BODY)
    answer = read(client)
  assert (status(answer), code(answer)) == (408, 'slow_client')
  assert time.monotonic() - start < 20
  works(server)


LARGE = b'x' * (2**14 + 1)


@pytest.mark.parametrize(
  'parts',
  [
    [b'GET /' + LARGE + b' HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    [POST + b'X-Large: ' + LARGE + b'\r\n\r\n'],
    [POST + 20 * (b'X-Large: ' + LARGE[:1000] + b'\r\n') + b'\r\n'],
    # A header without end. Nothing is sent after the limit is reached.
    [POST + b'X-Large: ', *15 * [b'x' * 1024], b'x' * 4096],
  ],
)
def test_large_headers_are_refused(server, parts):
  with server.connect() as client:
    for part in parts:
      client.sendall(part)
      time.sleep(0.001)
    answer = read(client)
  assert (status(answer), code(answer)) == (413, 'too_large')
  works(server)


def test_a_refused_client_may_still_send(server, monkeypatch):
  """A connection that is closed at once would lose the response."""
  monkeypatch.setattr(Protocol, 'dropping_seconds', 30)
  with server.connect() as client:
    client.sendall(POST + b'X-Large: ' + LARGE)
    for _ in range(200):
      client.sendall(b'x' * 1024)
      time.sleep(0.001)
    assert status(client.recv(65536)) == 413


def test_the_limit_of_the_headers_counts_no_body(server):
  """The body and the first half of the next headers are one piece of data."""
  body = BODY + b' ' * 2**15
  one = POST + KIND + length(len(body)) + b'\r\n' + body
  half = POST + b'Connection: close\r\n'
  with server.connect() as client:
    client.sendall(one + half)
    time.sleep(0.05)
    client.sendall(KIND + length(len(BODY)) + b'\r\n' + BODY)
    assert read(client).count(b'HTTP/1.1 200') == 2


def test_a_body_without_end_is_refused(server):
  chunk = b'10000\r\n' + b' ' * 65536 + b'\r\n'
  with server.connect() as client:
    client.sendall(POST + KIND + CHUNKED)
    with contextlib.suppress(ConnectionError):
      for _ in range(1000):
        client.sendall(chunk)
    answer = read(client)
  if answer:
    assert (status(answer), code(answer)) == (413, 'too_large')
  works(server)


@pytest.mark.parametrize('rest', [b'', BODY])
def test_a_huge_length_is_refused_before_the_body(server, rest):
  with server.connect() as client:
    client.sendall(POST + KIND + length(10**15) + b'\r\n' + rest)
    answer = read(client)
  assert (status(answer), code(answer)) == (413, 'too_large')
  works(server)


def test_a_chunked_body_is_accepted(server):
  with server.connect() as client:
    parts = [BODY[:7], BODY[7:]]
    client.sendall(POST + KIND + b'Connection: close\r\n' + CHUNKED)
    for part in parts:
      client.sendall(b'%x\r\n%s\r\n' % (len(part), part))
      time.sleep(0.02)
    client.sendall(b'0\r\n\r\n')
    assert status(read(client)) == 200


def test_pipelined_requests_are_answered_in_order(server):
  one = POST + KIND + length(len(BODY)) + b'\r\n' + BODY
  last = b'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
  with server.connect() as client:
    client.sendall(one + one + last)
    answer = read(client)
  assert answer.count(b'HTTP/1.1 200') == 3
  assert answer.endswith(b'ok\n')


def test_an_upgrade_to_a_web_socket_is_not_made(server):
  with server.connect() as client:
    client.sendall(
      b'GET /v1/model HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
      b'Connection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n'
    )
    client.shutdown(socket.SHUT_WR)
    answer = read(client)
  assert status(answer) in (200, None)


def test_too_many_connections_are_refused(server, impatient, monkeypatch):
  monkeypatch.setattr(Protocol, 'max_connections', 20)
  with contextlib.ExitStack() as stack:
    clients = [stack.enter_context(server.connect()) for _ in range(30)]
    answers = [x for x in map(read, clients) if x]
  assert len(answers) >= 10
  assert {(status(x), code(x)) for x in answers} == {(429, 'queue_full')}
  assert all(b'\r\nretry-after: 1\r\n' in x for x in answers)
  text = server.ask('GET', '/metrics').body
  count = re.search(r'errors_total{code="queue_full"} (\d+)', text)
  assert int(count[1]) >= len(answers)
  works(server)


def test_slow_and_broken_clients_do_not_stop_others(server):
  with contextlib.ExitStack() as stack:
    for i in range(15):
      client = stack.enter_context(server.connect())
      client.sendall(POST[: 5 + i])
    works(server)
  works(server)
