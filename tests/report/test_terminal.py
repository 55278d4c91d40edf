"""Tests the table of a run's results for a terminal."""

from tiger_jax.report.terminal import show_results


def test_the_table_shows_models_baselines_and_the_best_possible():
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
      'popularity': {'validation': metrics(0.1), 'test': metrics(0.0625)},
      'transitions': {'test': metrics(0.125)},
    },
    'best_possible': {'recall@10': 0.75},
  }
  lines = show_results(results).splitlines()
  assert max(map(len, lines)) < 80
  rows = {line[:19].strip(): line[19:].split() for line in lines[:8]}
  assert rows['TIGER test masked'] == ['0.2500']
  assert rows[''] == ['recall@10', 'invalid@10']
  assert rows['TIGER test'] == ['0.3750', '0.2500']
  assert rows['popularity test'] == ['0.0625', '0.2500']
  assert rows['transitions test'] == ['0.1250', '0.2500']
  assert rows['best possible test'] == ['0.7500']
  text = ' '.join(lines[8:])
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
