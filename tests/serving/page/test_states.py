"""Tests the page with servers that refuse, fail, disappear or change."""

import json
import threading
import time

import pytest

from tests.serving.page.shop import HOSTILE, serve
from tests.serving.page.test_page import titles, wait_for, wait_for_answer


def refusal(status, code, message, **headers):
  return status, headers, json.dumps({'code': code, 'message': message})


def test_a_refused_request_shows_the_message_and_can_be_repeated(
  open_page, shop
):
  shop.failures = [refusal(400, 'invalid_request', 'k is 10: choose 1 to 5')]
  page = open_page(wait=False)
  page.locator('#problem').wait_for()
  assert page.inner_text('#problem-text') == 'k is 10: choose 1 to 5'
  page.wait_for_timeout(300)
  assert len(shop.requests) == 1  # A repetition would be refused too.
  page.click('#retry')
  page.locator('.card').first.wait_for()
  assert not page.is_visible('#problem')


@pytest.mark.parametrize(
  ('status', 'headers', 'text'),
  [
    (429, {'Retry-After': '2'}, 'is busy. Trying again every 2 seconds.'),
    (503, {}, 'draining. Trying again every 1 second.'),
  ],
)
def test_a_busy_server_is_asked_again_after_the_time_that_it_names(
  open_page, shop, status, headers, text
):
  shop.failures = [refusal(status, 'x', 'The server is draining.', **headers)]
  start = time.monotonic()
  page = open_page(wait=False)
  page.locator('#problem').wait_for()
  assert text in page.inner_text('#problem-text')
  page.locator('.card').first.wait_for()
  assert time.monotonic() - start >= int(headers.get('Retry-After', 1))
  assert len(shop.requests) == 2


def test_a_change_during_a_wait_is_sent_at_once(open_page, shop):
  page = open_page()
  shop.failures = [refusal(429, 'queue_full', 'x', **{'Retry-After': '30'})]
  page.click('.card .pick >> nth=0')
  page.locator('#problem', has_text='busy').wait_for()
  assert page.inner_text('#status') == (
    'This list does not include your last change.'
  )
  page.click('.card .pick >> nth=1')
  wait_for(page, 'most likely')
  assert not page.is_visible('#problem')


def test_the_page_says_that_a_long_request_still_runs(open_page, shop):
  page = open_page()
  slow = shop.gates['P0000',] = threading.Event()
  page.click('.card .pick >> nth=0')
  wait_for(page, 'Still computing.')
  slow.set()
  wait_for(page, 'most likely')


@pytest.mark.parametrize('text', ['<h1>Bad gateway</h1>', '[', '7'])
def test_answers_of_other_programs_are_no_answers(open_page, shop, text):
  shop.failures = [(502, {}, text)]
  page = open_page(wait=False)
  page.locator('#problem', has_text='answered with status 502').wait_for()


def test_the_page_works_again_when_the_server_is_back(browser):
  first = serve()
  page = browser.new_page()
  page.goto(first.url)
  page.locator('.card').first.wait_for()
  first.shutdown()
  first.server_close()
  page.click('.card .pick >> nth=0')
  page.locator('#problem', has_text='The server does not answer.').wait_for()
  second = serve(first.server_port)
  wait_for(page, 'most likely')
  assert not page.is_visible('#problem')
  page.close()
  second.shutdown()
  second.server_close()


def test_a_new_model_replaces_the_codes_of_the_history(open_page, shop):
  page = open_page('#item=P0000')
  shop.model = 'b2b2b2b2'
  title, _ = shop.items['P0000']
  shop.items['P0000'] = (title, (9, 9, 9, 0))
  page.click('.card .pick >> nth=4')
  wait_for_answer(page)
  page.locator('#model', has_text='model b2b2b2b2').wait_for()
  shown = page.locator('#history .path').first
  assert shown.locator('.code').all_inner_texts() == ['9', '9', '9', '0']


def test_hostile_titles_are_shown_as_text(open_page):
  page = open_page('#item=P0011')
  page.fill('#search', '<img')
  page.locator('#matches li').wait_for()
  for where in ('#matches', '#history', '#recommendations'):
    assert HOSTILE in titles(page, where), where
  assert page.locator('#tree .leaf', has_text='<img src=x').count() == 1
  assert page.locator('main img, main b').count() == 0
  assert page.evaluate('window.attacked') is None


def test_an_item_without_a_title_is_shown_by_its_id(open_page):
  page = open_page('#item=P0012')
  assert titles(page, '#history') == ['P0012']
  assert page.inner_text('#history .id') == ''
