"""Tests of the endpoints: each answer against the Python API."""

import json
import math

import pytest

from tests.serving.server import live
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Recommendation

HISTORY = ['i101', 'i105', 'i106']


def as_items(entry):
  return [json.loads(json.dumps(x._asdict())) for x in entry]


def same(answer, expected):
  """Compares lists; scores may differ by the rounding errors of float32."""
  assert len(answer) == len(expected)
  for x, y in zip(answer, expected, strict=True):
    assert math.isclose(x['score'], y['score'], rel_tol=1e-4, abs_tol=1e-4)
    assert x | {'score': 0} == y | {'score': 0}


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'exclude_seen': True},
    {'deny': ['i100', 'i107']},
    {'allow': ['i103', 'i104']},
    {'allow': []},
    {'exact': True},
    {'temperature': 2.0, 'seed': 5, 'drawn_levels': 1},
  ],
)
def test_recommend_returns_what_the_python_api_returns(server, shop, options):
  reply = server.recommend(HISTORY, 4, options=options)
  expected = shop.recommend(HISTORY, 4, Options(**options))
  assert reply.status == 200
  same(reply.body['items'], as_items(expected))
  assert set(
    reply.body['items'][0] if expected else Recommendation._fields
  ) == (set(Recommendation._fields))
  rest = {k: v for k, v in reply.body.items() if k != 'items'}
  assert rest == {
    'unknown': [], 'fallback': None, 'model': shop.model_version, 'catalog': 1,
  }  # fmt: skip


def test_k_beyond_the_catalog_returns_all_items(server, shop):
  reply = server.recommend(HISTORY, 1000)
  assert len(reply.body['items']) == shop.num_items == 14


def test_an_empty_history_gets_the_popular_items(server, shop):
  reply = server.recommend([], 3)
  assert reply.body['fallback'] == 'popular'
  same(reply.body['items'], as_items(shop.recommend([], 3)))


def test_unknown_items_are_ignored_if_not_strict(server, shop):
  reply = server.recommend(['no', *HISTORY, 'none'], 3, strict=False)
  assert reply.body['unknown'] == ['no', 'none']
  same(reply.body['items'], as_items(shop.recommend(HISTORY, 3)))


def test_a_batch_has_the_lists_of_single_requests(server):
  histories = [HISTORY, [], ['i100'], ['x', 'i102'], HISTORY[:2]]
  body = {'histories': histories, 'k': 5, 'strict': False}
  reply = server.ask('POST', '/v1/recommend:batch', body)
  assert reply.status == 200
  assert set(reply.body) == {'lists', 'model', 'catalog'}
  for history, entry in zip(histories, reply.body['lists'], strict=True):
    single = server.recommend(history, 5, strict=False).body
    same(entry['items'], single['items'])
    assert entry['unknown'] == single['unknown']
    assert entry['fallback'] == single['fallback']


def test_an_item_has_its_neighbors(server, shop):
  reply = server.ask('GET', '/v1/items/i103?k=5')
  assert reply.status == 200
  expected = json.loads(json.dumps(shop.item('i103')._asdict()))
  assert {k: reply.body[k] for k in expected} == expected
  similar = [x._asdict() for x in shop.similar_items('i103', 5)]
  assert reply.body['similar'] == json.loads(json.dumps(similar))
  assert reply.body['catalog'] == 1


def test_search_returns_items_by_title(server, shop):
  reply = server.ask('GET', '/v1/items?q=item+1&k=3')
  expected = [x._asdict() for x in shop.search_titles('item 1', 3)]
  assert expected
  assert reply.body['items'] == json.loads(json.dumps(expected))
  assert set(reply.body) == {'items', 'model', 'catalog'}
  assert server.ask('GET', '/v1/items').body['items'] == []


def test_model_describes_the_model(server, shop):
  assert server.ask('GET', '/v1/model').body == {
    'name': 'first', 'model': shop.model_version, 'catalog': 1,
    'num_items': 14, 'max_history': 4,
    'level_sizes': list(shop.snapshot.catalog.level_sizes),
    'max_k': live.SETTINGS.max_k, 'demo': False,
  }  # fmt: skip


@pytest.mark.parametrize('admin', [False, True])
def test_probes_and_metrics(server, admin):
  for path in ('/livez', '/readyz'):
    reply = server.ask('GET', path, admin=admin)
    assert (reply.status, reply.body) == (200, 'ok\n')
  server.recommend(HISTORY)
  server.ask('GET', '/v1/items/i101')
  text = server.ask('GET', '/metrics', admin=admin).body
  for name in (
    'tiger_jax_requests_total{endpoint="/v1/recommend",status="200"}',
    'tiger_jax_requests_total{endpoint="/v1/items/{item_id}",status="200"}',
    'tiger_jax_request_seconds_bucket{endpoint="/v1/recommend",le="0.001"}',
    'tiger_jax_queue_seconds_bucket{lane="fast",le="0.002"}',
    'tiger_jax_batch_histories_bucket{lane="fast",le="8.0"}',
    'tiger_jax_queued_histories{lane="slow"} 0.0',
    'tiger_jax_catalog_version 1.0',
    'tiger_jax_items 14.0',
  ):
    assert name in text, name


def test_every_response_has_the_security_headers(server):
  for path in ('/v1/model', '/livez', '/nothing'):
    headers = server.ask('GET', path).headers
    policy = headers['content-security-policy']
    assert policy.startswith("default-src 'self'")
    assert headers['x-content-type-options'] == 'nosniff'
    assert headers['cache-control'] == 'no-store'


def test_the_deadline_and_the_queue_are_measured_from_the_first_byte(server):
  assert server.recommend(HISTORY, timeout_ms=60_000).status == 200
