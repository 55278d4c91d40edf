"""Tests of overload, deadlines, clients that go away, and the drain."""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import logging
import threading

import pytest

from tests.serving.server import live
from tests.serving.server.live import until
from tiger_jax.serving.server.failures import Failure

HISTORY = ['i101', 'i105']


@pytest.fixture(name='pool', scope='module')
def _pool():
  with concurrent.futures.ThreadPoolExecutor(64) as pool:
    yield pool


@contextlib.contextmanager
def busy(server, monkeypatch, lane=None):
  """Holds the thread of a lane until the end of the block.

  The default is the fast lane.
  """
  lane = lane or server.state.fast
  answer, release, entered = lane._answer, threading.Event(), threading.Event()
  sizes = []

  def wait(key, requests):
    sizes.append(len(requests))
    entered.set()
    assert release.wait(60)
    return answer(key, requests)

  with monkeypatch.context() as patch:
    patch.setattr(lane, '_answer', wait)
    try:
      yield entered, release, sizes
    finally:
      release.set()


def test_overload_gives_429_and_loses_nothing(server, pool, monkeypatch):
  """Requests for different histories and k share batches."""
  asked = [([f'i{100 + i % 7}', 'i105'], 1 + i % 5) for i in range(41)]
  expected = {}
  for history, k in asked:
    if (history[0], k) not in expected:
      body = server.recommend(history, k).body
      expected[history[0], k] = [x['item_id'] for x in body['items']]
  with busy(server, monkeypatch) as (entered, release, sizes):
    futures = [pool.submit(server.recommend, *asked[0])]
    assert entered.wait(30)
    futures += [pool.submit(server.recommend, *x) for x in asked[1:]]
    until(lambda: sum(x.done() for x in futures) == 24)
    refused = [x.result() for x in futures if x.done()]
    assert {(x.status, x.code) for x in refused} == {(429, 'queue_full')}
    assert {x.headers['retry-after'] for x in refused} == {'1'}
    # Requests that need no search are answered.
    assert server.ask('GET', '/v1/model').status == 200
    assert server.ask('GET', '/readyz').status == 200
    release.set()
    replies = [x.result() for x in futures]
  served = [
    (x, y) for x, y in zip(asked, replies, strict=True) if y.status == 200
  ]
  assert len(served) == 17
  for (history, k), reply in served:
    ids = [x['item_id'] for x in reply.body['items']]
    assert ids == expected[history[0], k]
  assert sizes == [1, 8, 8]


def test_more_requests_than_the_limit_are_refused_unread(
  shop, root, pool, monkeypatch
):
  settings = dataclasses.replace(live.SETTINGS, max_in_flight=3)
  with (
    live.serving(shop, root, settings) as server,
    busy(server, monkeypatch) as (entered, _, _),
  ):
    futures = [pool.submit(server.recommend, HISTORY, 3)]
    assert entered.wait(30)
    futures += [pool.submit(server.recommend, HISTORY, 3) for _ in range(2)]
    until(lambda: server.state.fast.num_queued == 2)
    connection = http.client.HTTPConnection('127.0.0.1', server.port)
    with contextlib.closing(connection):
      for _ in range(2):  # The connection stays open.
        connection.request(
          'POST', '/v1/recommend', b'x', {'Content-Type': 'application/json'}
        )
        response = connection.getresponse()
        assert response.status == 429
        assert response.headers['retry-after'] == '1'
        assert json.loads(response.read())['code'] == 'queue_full'
      # Probes are answered.
      connection.request('GET', '/readyz')
      assert connection.getresponse().read() == b'ok\n'
    errors = 'tiger_jax_errors_total{code="queue_full"} 2.0'
    assert errors in server.ask('GET', '/metrics').body
  assert {x.result().status for x in futures} == {200}


def test_slow_requests_do_not_count_as_requests_in_progress(
  shop, root, pool, monkeypatch
):
  settings = dataclasses.replace(live.SETTINGS, max_in_flight=1)
  exact = {'options': {'exact': True}}
  with live.serving(shop, root, settings) as server:
    slow = server.state.slow
    with busy(server, monkeypatch, slow) as (entered, _, _):
      futures = [pool.submit(server.recommend, HISTORY, 3, **exact)]
      assert entered.wait(30)
      futures += [pool.submit(server.recommend, HISTORY, 3, **exact)]
      until(lambda: slow.num_queued == 1)
      assert server.recommend(HISTORY, 3).status == 200
    assert {x.result().status for x in futures} == {200}


def test_more_requests_may_wait_while_the_model_changes(
  shop, root, pool, monkeypatch
):
  settings = dataclasses.replace(live.SETTINGS, max_in_flight=1)
  release, is_changing = threading.Event(), threading.Event()

  def rollback():
    is_changing.set()
    assert release.wait(60)
    raise Failure('conflict', 'there is no earlier model')

  with (
    live.serving(shop, root, settings) as server,
    busy(server, monkeypatch) as (entered, _, _),
  ):
    monkeypatch.setattr(server.state.models, 'rollback', rollback)
    futures = [pool.submit(server.recommend, HISTORY, 3)]
    assert entered.wait(30)
    assert server.recommend(HISTORY, 3).code == 'queue_full'
    change = pool.submit(server.admin, 'POST', '/admin/rollback')
    assert is_changing.wait(30)
    futures += [pool.submit(server.recommend, HISTORY, 3) for _ in range(3)]
    until(lambda: server.state.fast.num_queued == 3)
    assert server.recommend(HISTORY, 3).code == 'queue_full'
    release.set()
    assert change.result().code == 'conflict'
    assert not server.state.is_full(0) and server.state.is_full(1)
    # Requests that came during the change may still wait.
    server.state.settings = dataclasses.replace(settings, settle_seconds=60)
    assert not server.state.is_full(3) and server.state.is_full(4)
  assert {x.result().status for x in futures} == {200}


def test_an_idle_connection_is_closed_after_a_refusal(
  shop, root, pool, monkeypatch
):
  settings = dataclasses.replace(live.SETTINGS, max_in_flight=1)
  with (
    live.serving(shop, root, settings) as server,
    busy(server, monkeypatch) as (entered, _, _),
  ):
    first = pool.submit(server.recommend, HISTORY, 3)
    assert entered.wait(30)
    with server.connect() as client:
      client.sendall(
        b'POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n'
        b'Content-Length: 1\r\n\r\n'
      )
      assert client.recv(1000).startswith(b'HTTP/1.1 429')
      client.sendall(b'x')  # The body arrives after the response.
      while client.recv(1000):  # Fails after 30 seconds.
        pass
  assert first.result().status == 200


def test_a_deadline_is_enforced_in_the_queue(server, pool, monkeypatch):
  with busy(server, monkeypatch) as (entered, _, sizes):
    first = pool.submit(server.recommend, HISTORY, 3)
    assert entered.wait(30)
    reply = server.recommend(HISTORY, 3, timeout_ms=50)
    assert (reply.status, reply.code) == (504, 'deadline')
  assert first.result().status == 200
  assert server.recommend(HISTORY, 3).status == 200
  assert sum(sizes) == 1


def test_slow_options_do_not_wait_for_the_fast_lane(server, pool, monkeypatch):
  with busy(server, monkeypatch) as (entered, _, _):
    first = pool.submit(server.recommend, HISTORY, 3)
    assert entered.wait(30)
    assert server.recommend(HISTORY, 3, options={'exact': True}).status == 200
    assert not first.done()
  assert first.result().status == 200


def test_a_full_lane_refuses_no_request_of_the_other_lane(
  server, pool, monkeypatch
):
  with busy(server, monkeypatch) as (entered, _, _):
    futures = [pool.submit(server.recommend, HISTORY, 3)]
    assert entered.wait(30)
    futures += [pool.submit(server.recommend, HISTORY, 3) for _ in range(16)]
    until(lambda: server.state.fast.is_full)
    assert server.recommend(HISTORY, 3).code == 'queue_full'
    assert server.recommend(HISTORY, 3, options={'exact': True}).status == 200
  assert {x.result().status for x in futures} == {200}


def test_a_request_of_a_client_that_goes_away_is_dropped(
  server, pool, monkeypatch
):
  body = json.dumps({'history': HISTORY}).encode()
  head = (
    'POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n'
    f'Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
  )
  lane = server.state.fast
  with busy(server, monkeypatch) as (entered, _, sizes):
    first = pool.submit(server.recommend, HISTORY, 3)
    assert entered.wait(30)
    with server.connect() as client:
      client.sendall(head.encode() + body)
      until(lambda: lane.num_queued == 1)
    until(lambda: lane.num_queued == 0)
  assert first.result().status == 200
  until(lambda: lane.is_idle)
  assert sum(sizes) == 1


def test_the_log_holds_no_history(server, caplog):
  logger = logging.getLogger('tiger_jax.access')
  propagate, logger.propagate = logger.propagate, True
  try:
    with caplog.at_level(logging.DEBUG):
      server.recommend(['i101', 'i105'])
      server.recommend(['secret'])
      server.ask('GET', '/v1/items/i103')
      server.ask('GET', '/v1/items?q=secret')
      server.ask('POST', '/v1/recommend', b'{"history": ["secret')
      server.ask('GET', '/secret')
      # The last line is written just after the response.
      until(lambda: 'GET other 404' in caplog.text)
  finally:
    logger.propagate = propagate
  lines = [x.getMessage() for x in caplog.records]
  text = '\n'.join(lines)
  assert 'POST /v1/recommend 200' in text
  assert 'GET /v1/items/{item_id} 200' in text
  for private in ('i101', 'i105', 'i103', 'secret'):
    assert private not in text


def test_a_drain_answers_what_waits_and_refuses_the_rest(
  shop, root, pool, monkeypatch
):
  with live.serving(shop, root) as server:
    with busy(server, monkeypatch) as (entered, release, _):
      waiting = [pool.submit(server.recommend, HISTORY, 3)]
      assert entered.wait(30)
      waiting += [pool.submit(server.recommend, HISTORY, 3) for _ in range(9)]
      until(lambda: server.state.fast.num_queued == 9)
      reply = server.admin('POST', '/admin/drain')
      assert reply.body == {'draining': True, 'waiting': 9}
      stopping = pool.submit(server.stop)
      refused = server.recommend(HISTORY, 3)
      assert (refused.status, refused.code) == (503, 'draining')
      assert refused.headers['retry-after'] == '1'
      for path in ('/readyz', '/', '/v1/model', '/v1/items?q=a', '/none'):
        assert server.ask('GET', path).code == 'draining', path
      assert server.admin('POST', '/admin/rollback').code == 'draining'
      for path in ('/livez', '/metrics'):
        assert server.ask('GET', path).status == 200
      until(lambda: server.state.is_stopping)
      reply = server.admin('POST', '/admin/drain', {'draining': False})
      assert reply.code == 'conflict'
      assert not stopping.done()
      release.set()
    assert [x.result().status for x in waiting] == [200] * 10
    stopping.result(60)
    with pytest.raises(OSError):
      server.connect()


def test_a_drain_can_be_undone(server):
  assert server.admin('POST', '/admin/drain', {}).body['draining'] is True
  assert server.recommend(HISTORY).code == 'draining'
  reply = server.admin('POST', '/admin/drain', {'draining': False})
  assert reply.body == {'draining': False, 'waiting': 0}
  assert server.recommend(HISTORY).status == 200


def test_a_search_that_never_ends_does_not_keep_the_server(
  shop, root, pool, monkeypatch
):
  settings = dataclasses.replace(live.SETTINGS, drain_seconds=1)
  with live.serving(shop, root, settings) as server:
    with busy(server, monkeypatch) as (entered, _, _):
      waiting = pool.submit(server.recommend, HISTORY, 3)
      assert entered.wait(30)
      server.stop()
      with contextlib.suppress(OSError, http.client.HTTPException):
        assert waiting.result().status >= 500
