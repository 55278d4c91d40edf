"""Tests RESULTS.md and the checks of its records."""

import importlib
import itertools
import json
from pathlib import Path
import subprocess
import sys

import pytest

from tiger_jax.errors import DataError
from tiger_jax.evaluation.metrics import RANKING
from tiger_jax.report import records, tables
from tiger_jax.report.paper import without_variant


def record(**changes):
  values = {'recall@5': 0.04, 'ndcg@5': 0.03, 'recall@10': 0.06,
            'ndcg@10': 0.035, 'sid_recall@10': 0.07}  # fmt: skip
  unseen = {'recall@10': 0.065, 'ndcg@10': 0.036}
  return {
    'schema': records.SCHEMA,
    'experiment': 'table2',
    'dataset': 'beauty',
    'run': 'RQ-VAE',
    'order': 1,
    'columns': None,
    'command': 'python -m tiger_jax.main --config=configs/paper/table2.py',
    'model': 'tiger',
    'device': '1 x cpu',
    'seeds': [0, 1],
    'embedding': 'some-encoder',
    'metrics': {'test': values, 'test_masked': unseen},
    'standard_error': {
      'test': {'ndcg@10': 0.0005},
      'test_masked': {'recall@10': 0.0007},
    },
    'collision_rate': 0.125,
    'seconds': {'train': 1234.5},
    'environment': {},
    'config': {},
    'fingerprint': 'x',
    'of_a_group': ['RQ-VAE'],
  } | changes


def write(folder, *records_of_runs):
  for one in records_of_runs:
    name = one['run'].replace(' ', '_').lower()
    path = folder / one['experiment'] / one['dataset'] / f'{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(one))


def test_a_table_has_our_rows_and_the_paper_rows(tmp_path):
  write(tmp_path, record(), record(run='LSH', order=0, standard_error=None))
  lines = tables.make_results(tmp_path).splitlines()
  rows = {
    cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split('|') for line in lines if line.startswith('|'))
  }
  assert rows[''] == [
    'recall@5', 'ndcg@5', 'recall@10', 'ndcg@10', 'sid_recall@10', 'collide',
    'masked recall@10', 'masked ndcg@10', 'seconds',
  ]  # fmt: skip
  assert rows['*RQ-VAE*'][:4] == ['*.0454*', '*.0321*', '*.0648*', '*.0384*']
  assert rows['RQ-VAE'] == [
    '.0400', '.0300', '.0600', '.0350 ± .0005', '.0700', '12.5%',
    '.0650 ± .0007',
    '.0360', '1,234',
  ]  # fmt: skip
  assert rows['LSH'][3] == '.0350'
  names = [line for line in lines if line.startswith(('| LSH', '| RQ'))]
  assert names[0].startswith('| LSH')
  text = '\n'.join(lines)
  assert '## table2' in text and '### beauty' in text
  assert text.count('`python -m') == 1
  assert 'seeds 0, 1, vectors some-encoder' in text


def test_a_model_without_ids_leaves_cells_empty(tmp_path):
  plain = record(
    run='SASRec',
    experiment='table1',
    collision_rate=None,
    metrics={'test': {'recall@10': 0.5}},
    embedding='',
  )
  write(tmp_path, plain)
  text = tables.make_results(tmp_path)
  assert '| SASRec |  |  | .5000 |  |' in text
  assert 'vectors' not in text


def test_a_record_can_choose_the_columns_of_its_table(tmp_path):
  one = record(
    experiment='diversity',
    run='T=1.5',
    columns=['entropy@10', 'recall@10'],
    metrics={'test': {'entropy@10': 1.23456, 'recall@10': 0.05}},
    collision_rate=0.0,
    seconds={},
  )
  write(tmp_path, one)
  assert '| T=1.5 | 1.235 | .0500 |\n' in tables.make_results(tmp_path)


def test_a_new_column_is_empty_in_an_old_row(tmp_path):
  common = {'experiment': 'diversity', 'seconds': {}, 'collision_rate': None}
  old = record(
    run='old', order=0, columns=['entropy@10'],
    metrics={'test': {'entropy@10': 1.5}}, **common,
  )  # fmt: skip
  write(tmp_path, old)
  before = tables.make_results(tmp_path)
  assert '| old | 1.500 |\n' in before and 'adds beams' not in before
  new = record(
    run='new', order=1, columns=['entropy@10', 'proven'],
    metrics={'test': {'entropy@10': 1.6, 'proven': 0.9999}}, **common,
  )  # fmt: skip
  write(tmp_path, new)
  text = tables.make_results(tmp_path)
  assert '| old | 1.500 |  |\n' in text and 'adds beams' in text
  # Only a share of exactly 1 is shown as 1.000.
  assert '| new | 1.600 | 0.999 |\n' in text


@pytest.mark.parametrize(
  ('change', 'what'),
  [
    ({'schema': 99}, 'schema 99'),
    ({'seeds': None}, 'no valid seeds'),
    ({'run': 7, 'order': '1'}, 'no valid run, order'),
    ({'metrics': {}}, 'no valid metrics.test'),
    ({'metrics': {'test': {'recall@5': '.04'}}}, 'no valid metrics.test'),
    ({'metrics': {'test': {'recall@5': float('nan')}}}, 'valid metrics.test'),
    ({'standard_error': {'test': []}}, 'no valid standard_error.test'),
  ],
)
def test_an_invalid_record_is_refused(tmp_path, change, what):
  write(tmp_path, record())
  (path,) = tmp_path.glob('*/*/*.json')
  path.write_text(json.dumps(record() | change))
  with pytest.raises(DataError, match=what) as error:
    tables.make_results(tmp_path)
  assert 'rq-vae.json' in str(error.value) and '\n' not in str(error.value)


def test_a_record_without_a_field_is_refused(tmp_path):
  one = record()
  del one['seeds']
  write(tmp_path, one)
  with pytest.raises(DataError, match='no valid seeds'):
    tables.make_results(tmp_path)


def test_a_record_in_the_wrong_folder_is_refused(tmp_path):
  write(tmp_path, record())
  (tmp_path / 'table2').rename(tmp_path / 'table1')
  with pytest.raises(DataError, match='is a record of table2/beauty'):
    tables.make_results(tmp_path)


def test_a_bar_in_the_name_of_a_run_is_escaped(tmp_path):
  write(tmp_path, record(run='a|b'))
  assert r'| a\|b | .0400 |' in tables.make_results(tmp_path)


@pytest.mark.parametrize('text', ['', '[]', '{}', '"x"', '[' * 100_000])
def test_a_damaged_record_is_refused_in_one_line(tmp_path, text):
  write(tmp_path, record())
  (path,) = tmp_path.glob('*/*/*.json')
  path.write_text(text)
  with pytest.raises(DataError, match='is not a record of a run') as error:
    records.read_all(tmp_path)
  assert '\n' not in str(error.value)


def test_the_command_writes_the_page_or_refuses_in_one_line(tmp_path):
  write(tmp_path / 'results', record())

  def call(*arguments):
    return subprocess.run(
      [sys.executable, '-m', 'tiger_jax.report.tables', *arguments],
      capture_output=True,
      text=True,
      cwd=tmp_path,
    )

  done = call('results', 'RESULTS.md')
  assert done.returncode == 0, done.stderr
  assert '## table2' in (tmp_path / 'RESULTS.md').read_text()
  none = call('empty', 'OTHER.md')
  assert none.returncode == 3
  assert none.stderr.startswith('error: empty holds no results')
  assert call('results').returncode == 1
  folder = call('results', '.')
  assert folder.returncode == 3
  assert folder.stderr.startswith('error: . cannot be written')
  assert folder.stderr.count('\n') == 1


def test_results_md_is_up_to_date():
  root = Path(__file__).parents[2]
  made = tables.make_results(root / 'results')
  assert (root / 'RESULTS.md').read_text(encoding='utf-8') == made


def test_rows_have_the_order_of_their_experiment():
  all_records = records.read_all(Path(__file__).parents[2] / 'results')
  for (experiment, _), group in itertools.groupby(
    all_records, lambda record: (record['experiment'], record['dataset'])
  ):
    kind = without_variant(experiment)
    config = importlib.import_module(f'configs.paper.{kind}').get_config
    table = config(experiment[len(kind) + 1 :]).table
    ordered = sorted(group, key=lambda record: record['order'])
    runs = [x['run'] for x in ordered if x['run'] in table]
    assert runs == sorted(runs, key=table.index), experiment


def test_every_record_has_the_common_fields():
  root = Path(__file__).parents[2]
  for record in records.read_all(root / 'results'):
    assert set(RANKING) <= set(record['metrics']['test']), record['run']
    assert record['device'] and record['seeds'] and record['model']
