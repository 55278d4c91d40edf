"""Tests that the stand-in shop answers in the form of the server."""

import json
import urllib.request

import pytest

schemas = pytest.importorskip('tiger_jax.serving.server.schemas')


def ask(shop, path, body=None):
  data = None if body is None else json.dumps(body).encode()
  with urllib.request.urlopen(shop.url + path, data, timeout=20) as response:
    return json.load(response)


@pytest.mark.parametrize(
  ('kind', 'path', 'body'),
  [
    ('ModelAnswer', 'v1/model', None),
    ('ItemsAnswer', 'v1/items?q=kettle&k=20', None),
    ('ItemDetails', 'v1/items/P0000', None),
    ('RecommendAnswer', 'v1/recommend', {'history': ['P0000'], 'k': 3}),
    ('ItemsAnswer', 'v1/items', {'id': 'N1', 'title': 'New', 'text': None}),
  ],
)
def test_answers_have_the_fields_of_the_server(shop, kind, path, body):
  answer = ask(shop, path, body)
  parsed = getattr(schemas, kind).model_validate(answer, strict=True)
  # The parsed answer has all fields of the server, and only those.
  assert parsed.model_dump() == answer
