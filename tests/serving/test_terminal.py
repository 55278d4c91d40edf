"""What a person is shown."""

import dataclasses

from tiger_jax.serving.terminal import (
  shorten,
  show_recommendations,
  show_results,
  show_shoppers,
)


def test_lines_of_recommendations(recommender):
  found = recommender.recommend(['i102'], 3)
  lines = show_recommendations(found, bought=1).splitlines()
  assert [line.split()[0] for line in lines] == ['1', '*', '3']
  for line, entry in zip(lines, found, strict=True):
    assert f'{entry.score:.2f}' in line
    assert entry.item_id in line
    assert line.endswith(entry.title)
  assert '*' not in show_recommendations(found)
  assert 'No item may be recommended' in show_recommendations([])


def test_shoppers_are_shown_with_what_they_bought_next(recommender):
  text = show_shoppers(recommender, 0)
  assert text.count('Shopper ') == 3  # There are no more.
  ann = text[text.index('Shopper ann') :].split('\n\n')[0]
  # The last item is what is to be guessed.
  assert ann.splitlines()[1:3] == ['      Item 0', '      Item 1']
  bob = text[text.index('Shopper bob') :].split('\n\n')[0]
  assert bob.splitlines()[1] == '      (1 earlier)'
  assert bob.splitlines()[2:7] == [f'      Item {i}' for i in range(6, 11)]
  for name, target in (('ann', 'i102'), ('bob', 'i111'), ('cem', 'i104')):
    block = text[text.index(f'Shopper {name}') :].split('\n\n')[0]
    marked = [line for line in block.splitlines() if line.startswith('  *')]
    listed = [line for line in block.splitlines() if f'  {target} ' in line]
    assert marked == listed
    assert len(block.splitlines()) >= 10
  assert show_shoppers(recommender, 0) == text


def test_titles_fit_a_line(monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')
  assert shorten('two\n lines ') == 'two lines'
  assert shorten('x' * 68) == 'x' * 68
  long = shorten('x' * 69)
  assert len(long) == 68
  assert long.endswith('\N{HORIZONTAL ELLIPSIS}')


def test_the_table_of_results():
  def metrics(value):
    return {'recall@10': value, 'invalid@10': 0.25, 'invalid@20': 0.0123}

  results = {
    'model': 'tiger',
    'embedding': {'encoder': 'tfidf-svd', 'dim': 8},
    'semantic_ids': {'collision_rate': [1.0, 0.125]},
    'metrics': {
      'validation': metrics(0.5),
      'test': metrics(0.375),
      'test_masked': {'recall@10': 0.25},
    },
    'baselines': {
      'popularity': {'validation': metrics(0.1), 'test': metrics(0.0625)}
    },
    'best_possible': {'recall@10': 0.75},
  }
  lines = show_results(results).splitlines()
  assert max(map(len, lines)) < 80
  rows = {line[:19].strip(): line[19:].split() for line in lines[:7]}
  assert rows['TIGER test masked'] == ['0.2500']
  assert rows[''] == ['recall@10', 'invalid@10']
  assert rows['TIGER test'] == ['0.3750', '0.2500']
  assert rows['popularity test'] == ['0.0625', '0.2500']
  assert rows['best possible test'] == ['0.7500']
  text = ' '.join(lines[7:])
  assert 'TIGER reaches 50% of the best recall@10' in text
  assert '12.5%' in text
  assert 'invalid@20 is 0.0123' in text
  del results['best_possible']
  assert 'best possible' not in show_results(results)


def test_a_baseline_has_no_semantic_ids():
  values = {'recall@10': 0.5}
  results = {
    'model': 'sasrec',
    'metrics': {'validation': values, 'test': values, 'test_masked': values},
    'baselines': {'popularity': {'validation': values, 'test': values}},
  }
  text = show_results(results)
  assert 'SASRec test' in text
  assert 'sid_recall' not in text and 'invalid' not in text


def test_titles_and_ids_do_not_control_the_terminal(recommender):
  (entry,) = recommender.recommend(['i102'], 1)
  hostile = entry._replace(
    title='\x1b]52;c;cm0=\x07\x1b[2JNice\nmug \ud800\x9b31m',
    item_id='i\u202e3\x1b[1A',
  )
  text = show_recommendations([hostile])
  assert text.endswith(' i3[1A        ]52;c;cm0=[2JNice mug \ufffd31m')
  text.encode()
  # Joiners are part of emoji and of some scripts.
  family = '\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL} Übergröße'
  assert shorten(family) == family


def test_shoppers_do_not_control_the_terminal(recommender, monkeypatch):
  ids = ('a\x1bn\nn', 'bob', 'cem')
  dataset = dataclasses.replace(recommender.dataset, user_ids=ids)
  monkeypatch.setattr(recommender, 'dataset', dataset)
  text = show_shoppers(recommender, 0)
  assert 'Shopper an n bought\n' in text
  assert '\x1b' not in text
