"""Tests that the server has the files of the page, and no other files."""

import importlib.resources
import re

import pytest

PAGE = importlib.resources.files('tiger_jax.serving') / 'page'
FILES = sorted(x.name for x in PAGE.iterdir() if x.is_file())


def test_the_page_is_at_the_root(server):
  reply = server.ask('GET', '/')
  assert reply.status == 200
  assert reply.headers['content-type'] == 'text/html; charset=utf-8'
  assert reply.body == (PAGE / 'index.html').read_text()
  # Inline scripts and styles would not run under the policy.
  assert reply.headers['content-security-policy'] == (
    "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'"
  )


@pytest.mark.parametrize('name', [x for x in FILES if x != 'index.html'])
def test_each_file_of_the_page_is_served(server, name):
  reply = server.ask('GET', f'/page/{name}')
  assert reply.status == 200
  assert reply.body == (PAGE / name).read_text()
  kinds = {'js': 'text/javascript', 'css': 'text/css', 'svg': 'image/svg+xml'}
  kind = reply.headers['content-type'].partition(';')[0]
  assert kind == kinds[name.rpartition('.')[2]]


def test_every_link_of_the_page_exists(server):
  links = re.findall(r'(?:src|href)="([^"#]+)"', server.ask('GET', '/').body)
  assert links
  for link in links:
    if '://' not in link:
      assert server.ask('GET', f'/{link}').status == 200, link


@pytest.mark.parametrize(
  'name', ['index.html', '__init__.py', '..%2fapp.py', '']
)
def test_no_other_file_is_served(server, name):
  assert server.ask('GET', f'/page/{name}').code == 'not_found'
