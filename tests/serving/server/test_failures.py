"""Tests of the errors: each has a code and one line of text."""

import dataclasses
import inspect
import json

import pytest

from tests.serving.server import live
from tiger_jax.serving.server import (
  admin,
  app,
  batching,
  edits,
  failures,
  gate,
  models,
  protocol,
  schemas,
  state,
)

R, B = '/v1/recommend', '/v1/recommend:batch'
GOOD = {'history': ['i101']}
MANY = ['i101'] * 1001


@pytest.mark.parametrize(
  ('status', 'code', 'request_'),
  [
    (400, 'invalid_json', ('POST', R, b'{')),
    (400, 'invalid_json', ('POST', R, b'')),
    (400, 'invalid_json', ('POST', R, b'\xff')),
    (400, 'invalid_json', ('POST', R, b'{"history": ["\\ud800"]}')),
    (400, 'invalid_json', ('POST', R, b'{"k": NaN, "history": []}')),
    (400, 'invalid_json', ('POST', R, b'[' * 100_000)),
    (400, 'invalid_json', ('POST', R, b'{"a":' * 9999 + b'1' + b'}' * 9999)),
    (422, 'invalid_request', ('POST', R, b'[]')),
    (422, 'invalid_request', ('POST', R, b'null')),
    (422, 'invalid_request', ('POST', R, {})),
    (422, 'invalid_request', ('POST', R, {'history': 'i101'})),
    (422, 'invalid_request', ('POST', R, {'history': [101]})),
    (422, 'invalid_request', ('POST', R, {'history': [None]})),
    (422, 'invalid_request', ('POST', R, {'history': ['']})),
    (422, 'invalid_request', ('POST', R, GOOD | {'surprise': 1})),
    (422, 'invalid_request', ('POST', R, GOOD | {'options': {'denny': []}})),
    (422, 'invalid_request', ('POST', R, GOOD | {'options': {'seed': 1}})),
    (422, 'invalid_request', ('POST', R, GOOD | {'timeout_ms': 0})),
    (422, 'invalid_request', ('POST', R, GOOD | {'strict': 'no'})),
    *(
      (422, 'invalid_request', ('POST', R, GOOD | {'k': k}))
      for k in (-1, 0, 1e9, 10**9, 10**400, 1.5, True, '3', None)
    ),
    (
      422,
      'invalid_request',
      ('POST', R, GOOD | {'options': {'temperature': 1, 'drawn_levels': 9}}),
    ),
    (404, 'unknown_item', ('POST', R, {'history': ['lamp']})),
    (404, 'unknown_item', ('POST', R, GOOD | {'options': {'deny': ['lamp']}})),
    (404, 'unknown_item', ('POST', R, GOOD | {'options': {'allow': ['lamp']}})),
    (404, 'unknown_item', ('POST', B, {'histories': [['i101'], ['lamp']]})),
    (404, 'unknown_item', ('GET', '/v1/items/lamp')),
    (404, 'unknown_item', ('GET', '/v1/items/a/../b%00%ff')),
    (413, 'too_large', ('POST', R, {'history': MANY})),
    (413, 'too_large', ('POST', R, {'history': ['i101'] * 10**5})),
    (413, 'too_large', ('POST', R, b' ' * 10**6)),
    (413, 'too_large', ('POST', B, {'histories': [[]] * 9})),
    (413, 'too_large', ('POST', B, {'histories': [[]] * 8, 'k': 501})),
    (413, 'too_large', ('POST', R, GOOD | {'options': {'deny': MANY}})),
    (413, 'too_large', ('POST', R, GOOD | {'options': {'allow': MANY}})),
    (422, 'invalid_request', ('POST', B, {'histories': []})),
    (422, 'invalid_request', ('GET', '/v1/items?k=0')),
    (422, 'invalid_request', ('GET', '/v1/items?k=many')),
    (422, 'invalid_request', ('GET', '/v1/items?q=' + 'x' * 300)),
    (404, 'not_found', ('GET', '/v2/recommend')),
    (404, 'not_found', ('GET', '/docs')),
    (404, 'not_found', ('GET', '/page/../../settings.py')),
    (404, 'not_found', ('GET', '/v1/model/')),
    (404, 'not_found', ('POST', '/admin/drain')),
    (405, 'method_not_allowed', ('GET', R)),
    (405, 'method_not_allowed', ('DELETE', '/v1/items')),
    (403, 'forbidden', ('POST', '/v1/items', {'id': 'n', 'title': 'N'})),
  ],
)  # fmt: skip
def test_a_bad_request_is_refused(server, status, code, request_):
  reply = server.ask(*request_)
  assert (reply.status, reply.code) == (status, code)
  assert failures.STATUS[code] == status


def test_the_server_works_after_bad_requests(server):
  assert server.recommend(['i101'], 2).status == 200
  assert 'status="500"' not in server.ask('GET', '/metrics').body


def test_messages_name_the_field_but_not_its_value(server):
  reply = server.ask('POST', R, {'history': [['secret']], 'k': 'secret'})
  assert 'history.0' in reply.body['message'] and 'k: ' in reply.body['message']
  assert 'secret' not in reply.body['message']


@pytest.mark.parametrize(
  ('path', 'body', 'message'),
  [
    (R, {'history': [1] * 9}, 'history.0: Input should be a valid string'),
    (
      R,
      {'history': [], 'options': {'deny': [1] * 9, 'allow': [1] * 9}},
      'options.deny.0: Input should be a valid string; '
      'options.allow.0: Input should be a valid string',
    ),
    (
      B,
      {'histories': [['i101', 1, 1], [1]]},
      'histories.0.1: Input should be a valid string',
    ),
    (
      R,
      dict.fromkeys(map(str, range(6)), 1),
      'the body: too many fields: send only k, strict, options, timeout_ms, '
      'history',
    ),
  ],
)
def test_a_long_request_is_refused_at_its_first_error(
  server, path, body, message
):
  reply = server.ask('POST', path, body)
  assert (reply.status, reply.code) == (422, 'invalid_request')
  assert reply.body['message'] == message


def test_texts_are_refused_at_the_first_value_that_is_not_text():
  texts = dict.fromkeys(map(str, range(6)), 1)
  with pytest.raises(failures.Failure, match='^titles: each value must be'):
    schemas.parse(schemas.TitlesBody, json.dumps({'titles': texts}).encode())


def test_long_names_of_fields_are_cut(server):
  reply = server.ask('POST', R, GOOD | {'x' * 2000: 1})
  assert 'x' * 60 + ': ' in reply.body['message']
  assert len(reply.body['message']) < 200


@pytest.mark.parametrize('kind', ['text/plain', 'application/xml', ''])
def test_other_content_types_are_refused(server, kind):
  reply = server.ask('POST', R, GOOD, headers={'Content-Type': kind})
  assert (reply.status, reply.code) == (415, 'unsupported_media_type')


def test_a_charset_is_accepted(server):
  kind = {'Content-Type': 'Application/JSON; charset=utf-8'}
  assert server.ask('POST', R, GOOD, headers=kind).status == 200


@pytest.mark.parametrize(
  ('host', 'status'),
  [
    ('127.0.0.1', 200), ('localhost:8000', 200), ('[::1]:9', 200),
    ('LOCALHOST', 200), ('shop.example', 400), ('127.0.0.1.shop.example', 400),
    ('shop.example:8000', 400), ('', 400), ('localhost:80:80', 400),
  ],
)  # fmt: skip
def test_only_local_hosts_are_accepted_without_a_token(server, host, status):
  reply = server.ask('GET', '/v1/model', headers={'Host': host})
  assert reply.status == status
  if status == 400:
    assert reply.code == 'invalid_host'


@pytest.mark.parametrize(
  'header',
  [{'Authorization': x} for x in ('', 'Bearer', 'Bearer x', 'Basic x')],
)
def test_the_admin_port_needs_its_token(server, header):
  for method, path in (('GET', '/metrics'), ('POST', '/admin/rollback')):
    reply = server.ask(method, path, headers=header, admin=True)
    assert (reply.status, reply.code) == (401, 'unauthorized')
    assert reply.headers['www-authenticate'] == 'Bearer'


def test_a_token_guards_the_public_port(shop, root):
  token = 'public-token-of-the-tests'
  settings = dataclasses.replace(live.SETTINGS, token=token, admin_token=None)
  with live.serving(shop, root, settings) as server:
    assert server.ask('GET', '/readyz').status == 200
    for path in ('/v1/model', '/metrics', '/openapi.json', '/'):
      assert server.ask('GET', path).code == 'unauthorized'
    headers = {'Authorization': f'Bearer {token}', 'Host': 'shop.example'}
    assert server.ask('GET', '/v1/model', headers=headers).status == 200


def test_an_unexpected_error_says_nothing(server, monkeypatch, caplog):
  def fail():
    raise RuntimeError('secret')

  monkeypatch.setattr(server.state, 'describe', fail)
  monkeypatch.setattr(gate.log, 'propagate', True)
  reply = server.ask('GET', '/v1/model')
  assert (reply.status, reply.code) == (500, 'internal')
  assert 'secret' not in json.dumps(reply.body)
  place = f'{__file__}:{fail.__code__.co_firstlineno + 1}'
  live.until(lambda: f'RuntimeError at {place}' in caplog.messages)
  assert 'secret' not in caplog.text


def test_every_code_is_used():
  modules = (
    admin, app, batching, edits, failures, gate, models, protocol, schemas,
    state,
  )  # fmt: skip
  source = ''.join(map(inspect.getsource, modules))
  for code in failures.STATUS:
    assert source.count(f"'{code}'") > 1, code
