"""Tests of the files that a run writes."""

import jax
import numpy as np
import pytest

from tests.end_to_end.program import (
  FOLDERS,
  SHOP,
  clone,
  logged,
  program,
  read,
)

METRICS = {
  'recall@5', 'ndcg@5', 'recall@10', 'ndcg@10', 'sid_recall@10', 'invalid@10',
  'invalid@20',
}  # fmt: skip
pytestmark = pytest.mark.usefixtures('one_device')


def test_the_results_have_valid_values_in_every_section(shop):
  results = read(shop / 'results.json')
  assert results['dataset']['users'] == 64
  assert results['dataset']['items'] == 600
  assert 64 * 5 <= results['dataset']['interactions'] <= 64 * 20
  assert results['embedding'] == {'encoder': 'tfidf-svd', 'dim': 8}
  ids = results['semantic_ids']
  assert len(ids['usage']) == len(ids['perplexity']) == 3
  assert all(0 < usage <= 1 for usage in ids['usage'])
  assert all(1 <= perplexity <= 8 for perplexity in ids['perplexity'])
  assert all(0 < rate <= 1 for rate in ids['collision_rate'])
  masked = results['metrics'].pop('test_masked')
  assert masked.keys() == {'recall@5', 'recall@10', 'ndcg@5', 'ndcg@10'}
  assert masked['recall@10'] >= results['metrics']['test']['recall@10']
  of_generated_ids = {'invalid@10', 'invalid@20'}
  popularity = results['baselines']['popularity']
  for measured, names in (
    (results['metrics'], METRICS), (popularity, METRICS - of_generated_ids)
  ):  # fmt: skip
    assert measured.keys() == {'validation', 'test'}
    for values in measured.values():
      assert values.keys() == names
      assert all(0 <= value <= 1 for value in values.values())
      assert values['recall@5'] <= values['recall@10']
      assert values['recall@10'] <= values['sid_recall@10']
      assert values['ndcg@10'] <= values['recall@10']
  assert results['best_possible'].keys() == {'recall@10'}
  assert 0.3 < results['best_possible']['recall@10'] < 1
  assert results['seconds'].keys() == set(FOLDERS)
  assert all(value >= 0 for value in results['seconds'].values())
  environment = results['environment']
  assert environment['jax'] == jax.__version__
  assert len(environment['devices']) == 8
  assert environment['seed'] == 0
  assert results.keys() == {
    'model', 'dataset', 'embedding', 'semantic_ids', 'metrics', 'baselines',
    'best_possible', 'seconds', 'environment', 'command',
  }  # fmt: skip


def test_the_metrics_of_replicas_are_averaged(shop, tmp_path):
  """The first of two replicas matches a single run with the same seed."""
  workdir = clone(shop, tmp_path / 'run')
  arguments = (*SHOP, '--mode=evaluate', '--config.train.replicas=2')
  assert program(workdir, *arguments) == 0
  results = read(workdir / 'results.json')
  replicas = results['replicas']
  assert replicas['seed'] == [0, 1]
  assert replicas['best_on_validation'] in (0, 1)
  for name in ('validation', 'test'):
    first, second = replicas[name]
    for metric, mean in results['metrics'][name].items():
      values = np.array([first[metric], second[metric]])
      assert mean == pytest.approx(values.mean())
      error = results['standard_error'][name][metric]
      assert error == pytest.approx(values.std(ddof=1) / 2**0.5)
  lines = [x for x in logged(workdir) if x['stage'] == 'train']
  validations = [x for x in lines if 'ndcg@10' in x]
  assert [x['step'] for x in validations] == [10, 20]
  for line in validations:
    values = [line[f'ndcg@10/replica_{i}'] for i in range(2)]
    assert line['ndcg@10'] == pytest.approx(np.mean(values))
  alone = [x for x in logged(shop) if 'ndcg@10' in x]
  for line, expected in zip(validations, alone, strict=True):
    assert line['ndcg@10/replica_0'] == pytest.approx(expected['ndcg@10'])
  # The better replica is served.
  assert program(workdir, '--mode=recommend', '--history=P0001') == 0


def test_metrics_and_the_config_are_written_to_files(shop):
  lines = logged(shop)
  steps = [x['step'] for x in lines if x['stage'] == 'train' and 'loss' in x]
  assert steps == [5, 10, 15, 20]
  validations = [x['step'] for x in lines if 'ndcg@10' in x]
  assert validations == [10, 20]
  assert any(x['stage'] == 'semantic_ids' for x in lines)
  assert list((shop / 'tensorboard').iterdir())
  assert read(shop / 'config.json')['train']['steps'] == 20


def test_a_finished_run_leaves_no_temporary_files(shop):
  files = [
    'config.json',
    'metrics.jsonl',
    'results.json',
    'report.html',
    '.lock',
  ]
  assert sorted(path.name for path in shop.iterdir()) == sorted(
    [*FOLDERS, *files, 'tensorboard']
  )
