import pytest

from tiger_jax.data import item_text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (' A\n b\t c ', 'A b c'),
    ('\ud83d\ude00 \ud83d', '\U0001f600 �'),
    (None, ''),
    (5, ''),
    (['a'], ''),
  ],
)
def test_plain_returns_one_clean_line(value, text):
  assert item_text.plain(value) == text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (12, '12.00'),
    (3.049, '3.05'),
    ('7.5', '7.50'),
    ('$7 to $9', '$7 to $9'),
    (None, ''),
    (float('nan'), ''),
    ('inf', ''),
    ([], ''),
    (10**400, ''),
  ],
)
def test_prices_have_two_decimals(value, text):
  assert item_text.price(value) == text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    ([['A', 'B', ' C '], ['A', 'D']], 'A > B > C; A > D'),
    (['A', 'B'], 'A > B'),
    ('A > B; C', 'A > B; C'),
    ([['A', None, ''], [], 'stray'], 'A; stray'),
    ([], ''),
    (None, ''),
    (3, '3'),
    ({'a': 1}, ''),
  ],
)
def test_categories_are_joined(value, text):
  assert item_text.categories(value) == text


@pytest.mark.parametrize(
  ('name', 'value', 'expected'),
  [
    ('price', None, ('', item_text.EMPTY)),
    ('price', float('inf'), ('', item_text.EMPTY)),
    ('price', True, ('', item_text.UNUSABLE)),
    ('price', [3.5], ('', item_text.UNUSABLE)),
    ('price', 3, ('3.00', item_text.TEXT)),
    ('price', 'from 8', ('from 8', item_text.NO_NUMBER)),
    ('brand', True, ('', item_text.UNUSABLE)),
    ('brand', ['A', 'B'], ('A B', item_text.JOINED)),
  ],
)
def test_the_kind_of_a_value_says_what_is_wrong(name, value, expected):
  assert item_text.field(name, value) == expected
