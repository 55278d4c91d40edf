"""The category that tells items apart, on worked and on real shops."""

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


def test_departments_of_a_general_shop_are_kept():
  items = _items('Garden > Tools > Forks', 'Music', 'Garden > Seeds')
  assert coarse_categories(items) == ['Garden', 'Music', 'Garden']


def test_what_nearly_all_share_is_left_out():
  shop = ['All > Beauty > Hair', 'All > Beauty > Skin > Face'] * 10
  items = _items(*shop, 'All > Beauty', 'All > Toys > Games', 'All', 'Cars > X')
  found = coarse_categories(items)
  # Twenty of twenty-four begin with `All > Beauty`: that is not nearly all.
  assert found[:2] == ['Beauty', 'Beauty']
  assert found[20:] == ['Beauty', 'Toys', UNKNOWN, 'Cars']
  found = coarse_categories(_items(*shop * 10, *items.fields['categories']))
  assert found[:2] == ['Hair', 'Skin']
  assert found[220:] == [UNKNOWN, 'Toys', UNKNOWN, 'Cars']


def test_two_names_of_a_path():
  items = _items('A > B > C', 'A > D', 'E', '')
  assert coarse_categories(items, 2) == ['A > B', 'A > D', 'E', UNKNOWN]


def test_the_first_of_several_places_counts():
  items = _items('A > B; C > D', 'C; A', 'E')
  assert coarse_categories(items) == ['A', 'C', 'E']


def test_items_without_categories():
  assert coarse_categories(_items('', 'A', ' > ; B', 'B')) == [
    UNKNOWN, 'A', UNKNOWN, 'B',
  ]  # fmt: skip
  assert coarse_categories(_items('', '')) == [UNKNOWN, UNKNOWN]
  assert coarse_categories(_items()) == []


@pytest.mark.parametrize('num_items', [1, 30])
def test_the_name_of_all_items_stays_where_none_comes_after(num_items):
  items = _items(*['Books > Crime'] * num_items)
  assert coarse_categories(items) == ['Crime'] * num_items


def test_synthetic_shop():
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
