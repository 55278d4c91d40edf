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
