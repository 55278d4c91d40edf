"""Tests the functions of the page that compute values."""

import json
import math
import random

import pytest

from tests.serving.page.shop import shared

VALUES = {
  'ids': ['P1', 'P1', 'a&item=b', 'c,d e', '#é/?%20+', ''],
  'k': '20',
  'exclude_seen': True,
  'exact': False,
  'temperature': '1.5',
  'seed': 7,
}
PLAIN = {
  'ids': [],
  'k': '10',
  'exclude_seen': False,
  'exact': False,
  'temperature': None,
  'seed': 0,
}


@pytest.fixture(name='call')
def _call(page):
  def call(function, *args):
    values = ', '.join(map(json.dumps, args))
    script = f"import('./page/state.js').then(x => x.{function}({values}))"
    return page.evaluate(script)

  return call


@pytest.mark.parametrize('values', [VALUES, PLAIN, VALUES | {'exact': True}])
def test_the_fragment_of_the_url_keeps_all_values(call, values):
  assert call('parse', '#' + call('format', values)) == values


def test_a_url_keeps_the_latest_100_items(call):
  ids = [f'P{i}' for i in range(130)]
  fragment = call('format', PLAIN | {'ids': ids})
  assert call('parse', fragment)['ids'] == ids[30:]
  assert call('parse', '&'.join(f'item={x}' for x in ids))['ids'] == ids[30:]


def test_the_request_has_the_documented_form(call):
  assert call('body', PLAIN) == {
    'history': [],
    'k': 10,
    'strict': False,
    'options': {},
    'timeout_ms': 60000,
  }
  assert call('body', VALUES) == {
    'history': VALUES['ids'],
    'k': 20,
    'strict': False,
    'options': {'exclude_seen': True, 'temperature': 1.5, 'seed': 7},
    'timeout_ms': 60000,
  }
  # A server refuses a seed without a temperature.
  assert call('body', PLAIN | {'seed': 7, 'exact': True})['options'] == {
    'exact': True
  }


def test_an_element_moves_to_its_new_place(call):
  assert call('moved', ['a', 'b', 'c'], 2, -1) == ['a', 'c', 'b']
  assert call('moved', ['a', 'b', 'c'], 0, 1) == ['b', 'a', 'c']


def test_the_nearest_item_is_the_latest_of_those_with_most_codes(call):
  draw = random.Random(0)
  for _ in range(20):
    items = [
      {'semantic_id': [draw.randrange(2) for _ in range(4)], 'place': place}
      for place in range(draw.randrange(1, 6))
    ]
    new = [draw.randrange(2) for _ in range(4)]
    counts = [(shared(new, x['semantic_id']), x['place']) for x in items]
    count, place = max(counts)
    expected = {'count': count, 'item': items[place] if count else None}
    assert call('nearest', {'semantic_id': new}, items) == expected


@pytest.mark.parametrize(
  ('probability', 'text'),
  [
    (1, '100%'),
    (0.256, '26%'),
    (0.0996, '10%'),
    (0.0994, '9.9%'),
    (0.0312, '3.1%'),
    (0.00123, '0.12%'),
    (0.00001, 'below 0.01%'),
  ],
)
def test_probabilities_are_percentages(call, probability, text):
  assert call('percent', math.log(probability)) == text
