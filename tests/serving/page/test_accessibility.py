"""Tests the page with axe, on a phone, in both color schemes, by keyboard."""

import pytest

from tests.serving.page.test_states import refusal

HISTORY = '#item=P0000&item=P0004&item=gone&temperature=1.2&k=20'
PHONE = {'viewport': {'width': 360, 'height': 740}, 'has_touch': True}


def violations(page):
  axe = pytest.importorskip(
    'axe_playwright_python.sync_playwright',
    reason='needs axe-playwright-python: pip install axe-playwright-python',
  )
  # By default, axe does not check the sizes of buttons.
  options = {
    'resultTypes': ['violations'],
    'rules': {'target-size': {'enabled': True}},
  }
  report = axe.Axe().run(page, options=options)
  return report.generate_report() if report.violations_count else ''


def open_everything(page):
  page.fill('#search', 'ke')
  page.locator('#matches li').first.wait_for()
  page.click('#add summary')
  page.fill('#add-id', 'N1')
  page.fill('#add-title', 'Harbour Roast Kettle')
  page.click('#add-form button')
  page.locator('.card.new').wait_for()
  page.click('.similar summary >> nth=0')
  page.locator('.similar li').first.wait_for()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_axe_finds_no_violation(open_page, shop, scheme):
  page = open_page(HISTORY, color_scheme=scheme)
  open_everything(page)
  assert not violations(page)
  back = page.evaluate('getComputedStyle(document.body).backgroundColor')
  assert (back == 'rgb(255, 255, 255)') == (scheme == 'light')


def test_axe_finds_no_violation_in_a_problem(open_page, shop):
  shop.failures = [refusal(400, 'invalid_request', 'k is 10: choose 1 to 5')]
  page = open_page(wait=False)
  page.locator('#problem').wait_for()
  assert not violations(page)


def test_a_phone_shows_the_page_without_scrolling_sideways(open_page):
  page = open_page(HISTORY, **PHONE)
  open_everything(page)
  assert not violations(page)
  for width in (360, 320):
    page.set_viewport_size({'width': width, 'height': 740})
    size = page.evaluate(
      '[document.documentElement.scrollWidth,'
      ' ...[...document.querySelectorAll("body *")].filter('
      '  (x) => x.getBoundingClientRect().right > innerWidth + 1'
      ' ).map((x) => x.outerHTML.slice(0, 80))]'
    )
    assert size == [width]


def test_each_control_is_reached_by_tab_and_shows_the_focus(open_page):
  page = open_page('#item=P0000&item=P0004&temperature=1.2&k=5')
  expected = page.locator(
    'input:visible, select:visible, button:visible:enabled, summary:visible'
  ).count()
  page.evaluate('document.body.focus()')
  reached = 0
  for _ in range(expected):
    page.keyboard.press('Tab')
    reached += page.evaluate(
      'document.activeElement !== document.body &&'
      " getComputedStyle(document.activeElement).outlineStyle === 'solid' &&"
      ' !document.activeElement.dataset.reached &&'
      ' Boolean(document.activeElement.dataset.reached = "1")'
    )
  assert reached == expected
  page.keyboard.press('Tab')
  assert page.evaluate('document.activeElement === document.body')


def test_changes_are_announced(open_page):
  page = open_page()
  for where in ('#status', '#search-status', '#added-status'):
    assert page.get_attribute(where, 'role') == 'status'
  assert page.get_attribute('#problem', 'role') == 'alert'
