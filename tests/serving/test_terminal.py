"""Tests of recommendations as text for a terminal."""

import dataclasses

from tiger_jax.serving.terminal import (
  shorten,
  show_recommendations,
  show_shoppers,
)


def test_each_recommendation_is_one_line(recommender):
  items = recommender.recommend(['i102'], 3)
  lines = show_recommendations(items, bought=1).splitlines()
  assert [line.split()[0] for line in lines] == ['1', '*', '3']
  for line, entry in zip(lines, items, strict=True):
    assert f'{entry.score:.2f}' in line
    assert entry.item_id in line
    assert line.endswith(entry.title)
  assert '*' not in show_recommendations(items)
  assert 'No item can be recommended' in show_recommendations([])


def test_shoppers_are_shown_with_their_next_purchase(recommender):
  text = show_shoppers(recommender, 0)
  assert text.count('Shopper ') == 3  # The shop has three shoppers.
  ann = text[text.index('Shopper ann') :].split('\n\n')[0]
  # The last item is the target.
  assert ann.splitlines()[1:3] == ['      Item 0', '      Item 1']
  bob = text[text.index('Shopper bob') :].split('\n\n')[0]
  assert bob.splitlines()[1] == '      (1 earlier)'
  assert bob.splitlines()[2:7] == [f'      Item {i}' for i in range(6, 11)]
  for name, target in (('ann', 'i102'), ('bob', 'i111'), ('cem', 'i104')):
    block = text[text.index(f'Shopper {name}') :].split('\n\n')[0]
    marked = [line for line in block.splitlines() if line.startswith('  *')]
    expected = [line for line in block.splitlines() if f'  {target} ' in line]
    assert marked == expected
    assert len(block.splitlines()) >= 10
  assert show_shoppers(recommender, 0) == text


def test_titles_fit_a_line(monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')
  assert shorten('two\n lines ') == 'two lines'
  assert shorten('x' * 68) == 'x' * 68
  long = shorten('x' * 69)
  assert len(long) == 68
  assert long.endswith('\N{HORIZONTAL ELLIPSIS}')


def test_titles_and_ids_do_not_control_the_terminal(recommender):
  (entry,) = recommender.recommend(['i102'], 1)
  hostile = entry._replace(
    title='\x1b]52;c;cm0=\x07\x1b[2JNice\nmug \ud800\x9b31m',
    item_id='i\u202e3\x1b[1A',
  )
  text = show_recommendations([hostile])
  assert text.endswith(' i3[1A        ]52;c;cm0=[2JNice mug \ufffd31m')
  text.encode()
  # Joiners are kept, because emoji and some scripts need them.
  family = '\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL} Übergröße'
  assert shorten(family) == family


def test_shoppers_do_not_control_the_terminal(recommender, monkeypatch):
  ids = ('a\x1bn\nn', 'bob', 'cem')
  model = recommender.snapshot.model
  dataset = dataclasses.replace(model.dataset, user_ids=ids)
  model = dataclasses.replace(model, dataset=dataset)
  snapshot = dataclasses.replace(recommender.snapshot, model=model)
  monkeypatch.setattr(recommender, '_snapshot', snapshot)
  text = show_shoppers(recommender, 0)
  assert 'Shopper an n bought\n' in text
  assert '\x1b' not in text
