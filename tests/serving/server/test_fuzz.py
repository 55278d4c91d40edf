"""Sends random requests: none may cause a 5xx or end the server."""

import contextlib
import json
import random

import pytest

KEYS = (
  'history', 'histories', 'k', 'strict', 'options', 'timeout_ms', 'deny',
  'exclude_seen', 'allow', 'temperature', 'seed', 'exact', 'id', 'title', 'x',
)  # fmt: skip
VALUES = (
  None, True, False, 0, -1, 1, 5, 1e9, 10**9, 10**30, 1.5, -0.0, 1e-320, '',
  'i101', 'i999', '\0', '\U0001f600', 'x' * 2000, [], {}, ['i101'], [[]],
  [['i101'] * 9],
  ['i101'] * 1200, {'exclude_seen': True}, {'seed': 3},
  {'temperature': 2.0},
)  # fmt: skip
PATHS = (
  '/v1/recommend', '/v1/recommend:batch', '/v1/items', '/v1/items/i101',
  '/v1/model', '/readyz', '/', '/v1/items/%00%ff', '/v1/items?q=%00&k=3',
  '/v1/items?q=%F0%9F&k=-1', '/v1/items?k=1e9', '//', '/v1/../v1/model',
)  # fmt: skip
METHODS = ('POST',) * 6 + ('GET', 'DELETE', 'PUT', 'PATCH', 'OPTIONS', 'HEAD')
KINDS = ('application/json',) * 6 + ('text/plain', 'application/json; x', '')


def random_value(rng, depth=0):
  if depth < 3 and rng.random() < 0.3:
    return {
      rng.choice(KEYS): random_value(rng, depth + 1)
      for _ in range(rng.randint(0, 4))
    }
  return rng.choice(VALUES)


def random_body(rng):
  """Returns a valid body, a body with random fields, or damaged JSON."""
  body = {'history': ['i101'], 'k': rng.randint(1, 5)}
  for _ in range(rng.choice((0, 1, 1, 2, 4))):
    body[rng.choice(KEYS)] = random_value(rng)
  data = bytearray(json.dumps(body).encode())
  damage = rng.random()
  if damage < 0.2:
    for _ in range(rng.randint(1, 3)):
      data[rng.randrange(len(data))] = rng.randrange(256)
  elif damage < 0.25:
    del data[rng.randrange(len(data)) :]
  elif damage < 0.27:
    data[:] = b'[' * rng.choice((10, 1000, 100_000))
  return bytes(data)


def random_bytes(rng):
  """Returns a request with damage in its head, for a socket."""
  body = random_body(rng)
  length = rng.choice((len(body), 0, 1, len(body) + 1, 10**12, -1, 'x'))
  head = bytearray(
    f'{rng.choice(METHODS)} {rng.choice(PATHS)} HTTP/1.{rng.choice("019")}\r\n'
    f'Host: localhost\r\nContent-Type: {rng.choice(KINDS)}\r\n'
    f'Content-Length: {length}\r\nConnection: close\r\n\r\n'.encode()
  )
  for _ in range(rng.randint(0, 2)):
    head[rng.randrange(len(head))] = rng.randrange(256)
  return bytes(head) + body


def send(server, data):
  """Returns the first bytes of the response, or nothing."""
  with server.connect() as client, contextlib.suppress(OSError):
    client.settimeout(10)
    client.sendall(data)
    client.shutdown(1)
    return client.recv(65536)
  return b''


@pytest.mark.parametrize(
  ('seed', 'count'), [(0, 200), pytest.param(1, 10_000, marks=pytest.mark.slow)]
)
def test_random_requests_cause_no_server_error(server, seed, count):
  rng = random.Random(seed)
  statuses = set()
  for _ in range(count):
    if rng.random() < 0.25:
      answer = send(server, random_bytes(rng))
      status = int(answer.split(b' ', 2)[1]) if answer else 0
    else:
      method = rng.choice(METHODS)
      reply = server.ask(
        method, rng.choice(PATHS), random_body(rng),
        headers={'Content-Type': rng.choice(KINDS)},
      )  # fmt: skip
      status = reply.status
      if status >= 400 and method != 'HEAD':
        assert reply.code
    assert status < 500 or status == 504  # A short `timeout_ms`.
    statuses.add(status)
  assert {200, 400, 404, 405, 415, 422} <= statuses
  assert server.recommend(['i101'], 2).status == 200
