"""Tests that the server keeps to its own OpenAPI document, under fuzzing."""

import hypothesis
import pytest
import schemathesis
from schemathesis import checks as _  # noqa: F401  # Registers the checks.

from tests.serving.server import live

schema = schemathesis.pytest.from_fixture('public_schema')
admin_schema = schemathesis.pytest.from_fixture('admin_port_schema')
FUZZING = hypothesis.settings(
  max_examples=25,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(name='public_schema', scope='module')
def _public_schema(server):
  document = server.ask('GET', '/openapi.json').body
  loaded = schemathesis.openapi.from_dict(document)
  loaded.config.update(base_url=f'http://127.0.0.1:{server.port}')
  return loaded


@pytest.fixture(name='admin_port_schema', scope='module')
def _admin_schema(server):
  document = server.ask('GET', '/openapi.json', admin=True).body
  loaded = schemathesis.openapi.from_dict(document)
  loaded.config.update(base_url=f'http://127.0.0.1:{server.admin_port}')
  return loaded


@schema.parametrize()
@FUZZING
def test_the_public_port_keeps_to_its_schema(case):
  case.call_and_validate()


@admin_schema.parametrize()
@FUZZING
def test_the_admin_port_keeps_to_its_schema(case):
  headers = {'Authorization': f'Bearer {live.ADMIN_TOKEN}'}
  case.call_and_validate(headers=headers)


def test_the_documents_describe_all_endpoints(server):
  paths = {
    path: sorted(methods)
    for admin in (False, True)
    for path, methods in server.ask('GET', '/openapi.json', admin=admin)
    .body['paths']
    .items()
  }
  assert paths == {
    '/v1/recommend': ['post'], '/v1/recommend:batch': ['post'],
    '/v1/items': ['get', 'post'], '/v1/items/{item_id}': ['get'],
    '/v1/model': ['get'], '/livez': ['get'], '/readyz': ['get'],
    '/metrics': ['get'], '/admin/items': ['delete', 'post'],
    '/admin/titles': ['post'], '/admin/reload': ['post'],
    '/admin/rollback': ['post'], '/admin/drain': ['post'],
  }  # fmt: skip
