"""Tests that the server keeps to its own OpenAPI document, under fuzzing."""

import hypothesis
import pytest
import schemathesis
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
  negative_data_rejection,
  positive_data_acceptance,
)

from tests.serving.server import live
from tiger_jax.serving.server import app

ENDPOINTS = {
  '/v1/recommend': ['post'], '/v1/recommend:batch': ['post'],
  '/v1/items': ['get', 'post'], '/v1/items/{item_id}': ['get'],
  '/v1/model': ['get'], '/livez': ['get'], '/readyz': ['get'],
  '/metrics': ['get'], '/admin/items': ['delete', 'post'],
  '/admin/titles': ['post'], '/admin/reload': ['post'],
  '/admin/rollback': ['post'], '/admin/drain': ['post'],
}  # fmt: skip


# Hypothesis takes the random numbers of the thread of the server for those of
# the strategy.
@pytest.mark.filterwarnings('ignore:Do not use the .random. module')
@pytest.mark.parametrize('mode', list(GenerationMode))
@pytest.mark.parametrize(
  ('path', 'method'),
  # A drain would end the tests.
  [(p, m) for p, ms in ENDPOINTS.items() for m in ms if p != '/admin/drain'],
)
def test_an_endpoint_keeps_to_its_schema(server, path, method, mode):
  is_admin = path.startswith('/admin')
  document = server.ask('GET', '/openapi.json', admin=is_admin).body
  schema = schemathesis.openapi.from_dict(document)
  port = server.admin_port if is_admin else server.port
  headers = {'Authorization': f'Bearer {live.ADMIN_TOKEN}'}
  # A request of the right form may name unknown items.
  excluded = [positive_data_acceptance]
  if method == 'get':  # Unknown query parameters are ignored.
    excluded.append(negative_data_rejection)

  @hypothesis.settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(schema[path][method].as_strategy(mode))
  def check(case):
    if mode == GenerationMode.POSITIVE and isinstance(case.body, dict):
      case.body.pop('timeout_ms', None)  # A short deadline is a 504.
    case.call_and_validate(
      base_url=f'http://127.0.0.1:{port}',
      headers=headers,
      excluded_checks=excluded,
    )

  try:
    check()
  except hypothesis.errors.Unsatisfiable:  # There is no negative data.
    assert mode == GenerationMode.NEGATIVE


def test_the_document_is_made_once(server, monkeypatch):
  first = server.ask('GET', '/openapi.json').body
  monkeypatch.setattr(app, 'models_json_schema', lambda *_: pytest.fail())
  assert server.ask('GET', '/openapi.json').body == first


def test_the_documents_describe_all_endpoints(server):
  paths = {}
  for is_admin in (False, True):
    document = server.ask('GET', '/openapi.json', admin=is_admin).body
    paths |= {path: sorted(x) for path, x in document['paths'].items()}
  assert paths == ENDPOINTS
