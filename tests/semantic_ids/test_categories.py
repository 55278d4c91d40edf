"""Tests coarse categories on examples, synthetic items and Amazon Beauty."""

import collections
import gzip
import json

import pytest

from tiger_jax.data import item_text
from tiger_jax.data.dataset import FIELDS, Items
from tiger_jax.data.sources import synthetic, synthetic_items
from tiger_jax.semantic_ids.categories import UNKNOWN, coarse_categories


def _items(*categories):
  blank = ('',) * len(categories)
  ids = tuple(str(row) for row in range(len(categories)))
  return Items(
    ids, {name: blank for name in FIELDS} | {'categories': categories}
  )


def test_the_first_name_of_a_path_is_the_category():
  items = _items('Garden > Tools > Forks', 'Music', 'Garden > Seeds')
  assert coarse_categories(items) == ['Garden', 'Music', 'Garden']


def test_names_that_nearly_all_items_share_are_dropped():
  shop = ['All > Beauty > Hair', 'All > Beauty > Skin > Face'] * 10
  items = _items(*shop, 'All > Beauty', 'All > Toys > Games', 'All', 'Cars > X')
  categories = coarse_categories(items)
  # Only 20 of 24 paths continue after `All > Beauty`, so `Beauty` is not
  # dropped.
  assert categories[:2] == ['Beauty', 'Beauty']
  assert categories[20:] == ['Beauty', 'Toys', UNKNOWN, 'Cars']
  items = _items(*shop * 10, *items.fields['categories'])
  categories = coarse_categories(items)
  assert categories[:2] == ['Hair', 'Skin']
  assert categories[220:] == [UNKNOWN, 'Toys', UNKNOWN, 'Cars']


def test_a_category_can_have_two_names():
  items = _items('A > B > C', 'A > D', 'E', '')
  assert coarse_categories(items, 2) == ['A > B', 'A > D', 'E', UNKNOWN]


def test_the_first_of_several_paths_is_used():
  items = _items('A > B; C > D', 'C; A', 'E')
  assert coarse_categories(items) == ['A', 'C', 'E']


def test_items_without_categories_are_unknown():
  assert coarse_categories(_items('', 'A', ' > ; B', 'B')) == [
    UNKNOWN, 'A', UNKNOWN, 'B',
  ]  # fmt: skip
  assert coarse_categories(_items('', '')) == [UNKNOWN, UNKNOWN]
  assert coarse_categories(_items()) == []


@pytest.mark.parametrize('num_items', [1, 30])
def test_last_shared_name_is_kept(num_items):
  items = _items(*['Books > Crime'] * num_items)
  assert coarse_categories(items) == ['Crime'] * num_items


def test_categories_of_the_synthetic_shop_are_its_departments():
  items = synthetic.make(1, 0).items
  assert collections.Counter(coarse_categories(items)) == dict.fromkeys(
    synthetic_items.DEPARTMENTS, 120
  )


def test_amazon_beauty_has_the_categories_of_the_paper(data_root):
  path = data_root / 'amazon2014_beauty' / 'meta_Beauty.json.gz'
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    records = [json.loads(line) for line in file]
  items = _items(
    *(item_text.categories(record['categories']) for record in records)
  )
  assert collections.Counter(coarse_categories(items)) == {
    'Skin Care': 3814,
    'Hair Care': 3262,
    'Makeup': 2627,
    'Tools & Accessories': 1222,
    'Bath & Body': 684,
    'Fragrance': 492,
  }
