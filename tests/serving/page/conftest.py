"""Fixtures that open the page in Chromium, served by a stand-in shop."""

import contextlib
import json

import pytest

from docs import screenshots
from tests.serving.page.shop import serve

FLAGS = [x for x in screenshots.FLAGS if '=' not in x and x != '--headless']


@pytest.fixture(name='browser', scope='package')
def _browser():
  playwright = pytest.importorskip(
    'playwright.sync_api', reason='needs playwright: pip install playwright'
  )
  path = screenshots.find_chromium()
  if path is None:
    pytest.skip(screenshots.NEEDS_CHROMIUM)
  with playwright.sync_playwright() as started:
    browser = started.chromium.launch(executable_path=path, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(name='running_shop', scope='package')
def _running_shop():
  shop = serve()
  yield shop
  shop.shutdown()
  shop.server_close()


@pytest.fixture(name='shop')
def _shop(running_shop):
  running_shop.reset()
  yield running_shop
  for gate in running_shop.gates.values():
    gate.set()
  # The server accepts all that the page has sent.
  schemas = pytest.importorskip('tiger_jax.serving.server.schemas')
  for body in running_shop.requests:
    schemas.parse(schemas.RecommendBody, json.dumps(body).encode())
  for body in running_shop.additions:
    schemas.parse(schemas.DescribedItemBody, json.dumps(body).encode())


@pytest.fixture(name='open_page')
def _open_page(browser, shop):
  """Returns a function that opens the page and waits for the first answer.

  At the end of the test, the page must have raised no error, and must not have
  broken the content security policy.
  """
  with contextlib.ExitStack() as stack:
    errors = []

    def open_page(fragment='', wait=True, **settings):
      settings = {'viewport': {'width': 1280, 'height': 900}, **settings}
      context = browser.new_context(**settings)
      stack.callback(context.close)
      context.set_default_timeout(20_000)
      page = context.new_page()
      page.on('pageerror', lambda error: errors.append(str(error)))
      page.on('console', lambda message: errors.append(message.text))
      page.goto(shop.url + fragment)
      if wait:
        page.locator('.card').first.wait_for()
      return page

    yield open_page
    # Chromium logs each refused request.
    allowed = 'Failed to load resource'
    assert not [x for x in errors if not x.startswith(allowed)]


@pytest.fixture(name='page')
def _page(open_page):
  return open_page()
