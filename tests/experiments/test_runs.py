"""Runs experiments from end to end, on small datasets and networks."""

import importlib
import json

import numpy as np
import pytest

from tests import small
from tiger_jax.config import config_dict
from tiger_jax.data.sources import synthetic
from tiger_jax.errors import DataError, UsageError
from tiger_jax.experiments import cold_start, runs
from tiger_jax.experiments.spec import parse
from tiger_jax.report import records, tables
from tiger_jax.stages import embedding, evaluation
from tiger_jax.storage.artifacts import locked

COMMAND = 'python -m tiger_jax.main --config=configs/paper/x.py:cpu'

pytestmark = pytest.mark.filterwarnings(
  'ignore:.*Sharding info not provided:UserWarning'
)


def spec_of(name, variant='cpu'):
  module = importlib.import_module(f'configs.paper.{name}')
  return module.get_config(variant)


def tiny(name, *kept):
  """Returns the spec of a small experiment, with all runs or only `kept`."""
  spec = spec_of(name)
  for section in (spec.datasets[shop].dataset for shop in spec.datasets):
    section.name = 'synthetic'
  base = spec.base
  base.embedding.encoder = 'tfidf-svd'
  base.embedding.dim = 8
  base.dataset.synthetic_users = 64
  base.semantic_ids.codebook_sizes = (8, 8)
  base.semantic_ids.epochs = 1
  base.semantic_ids.restart_epochs = 0
  base.semantic_ids.hidden_dims = (8,)
  base.model.update({'max_history': 4, **small.MODEL})
  base.train.update({
    'steps': 6, 'evaluate_every': 3, 'batch_size': 8, 'length_buckets': (4,),
    'steps_per_call': 1, 'evaluate_users': 16,
  })  # fmt: skip
  base.train.optimizer.warmup_steps = 2
  base.evaluation.update({'num_beams': 10, 'batch_size': 32, 'num_users': 24})
  with spec.unlocked():
    spec.order = tuple(x for x in spec.order if not kept or x in kept)
    for run in spec.order:
      if 'train' in spec.runs[run]:
        train = spec.runs[run].train
        train.steps = 6
        for field, value in (('evaluate_every', 3), ('batch_size', 8)):
          if field in train:
            train[field] = value
        if 'warmup_steps' in train.get('optimizer', {}):
          train.optimizer.warmup_steps = 2
  return spec


def run(spec, workdir):
  return runs.run(parse(spec, COMMAND), workdir)


def test_runs_share_stages_and_are_not_repeated(tmp_path, monkeypatch):
  spec = tiny('table2', 'random', 'RQ-KMeans')
  table = run(spec, tmp_path)
  assert '| random |' in table and '| *LSH* | *.0379* |' in table
  for stage in ('data', 'embedding'):
    assert not (tmp_path / 'beauty' / 'rq-kmeans' / stage).exists()
  assert (tmp_path / 'beauty' / 'rq-kmeans' / 'semantic_ids').is_dir()
  saved = records.read_all(tmp_path / 'results')
  # `order` is the place in the whole table, even if some runs are not selected.
  assert {x['run']: x['order'] for x in saved} == {'random': 0, 'RQ-KMeans': 3}
  for record in saved:
    assert record['model'] == 'tiger' and record['seeds'] == [0]
    assert record['embedding'] == 'tfidf-svd' and record['device'] == '8 x cpu'
    assert {'test', 'test_masked', 'validation'} <= set(record['metrics'])
    assert record['config']['evaluation']['num_users'] == 24
    for name in ('recall@5', 'ndcg@5', 'recall@10', 'ndcg@10'):
      assert 0 <= record['metrics']['test'][name] <= 1
      assert 0 <= record['metrics']['test_masked'][name] <= 1
  assert '## table2_cpu' in tables.make_results(tmp_path / 'results')

  def fail(*unused):
    raise AssertionError('a run is repeated')

  monkeypatch.setattr(evaluation, 'build', fail)
  paths = sorted((tmp_path / 'results').rglob('*.json'))
  texts = [path.read_text() for path in paths]
  assert run(spec, tmp_path) == table
  assert [path.read_text() for path in paths] == texts

  record = json.loads(paths[0].read_text())
  paths[0].write_text(json.dumps(record | {'schema': 0}))
  with pytest.raises(DataError, match='schema 0'):
    run(spec, tmp_path)


def test_a_run_of_an_experiment_is_locked(tmp_path):
  spec = tiny('table2', 'random')
  with locked(tmp_path / 'beauty' / 'random'):
    with pytest.raises(UsageError, match='another process uses .*/random'):
      run(spec, tmp_path)
  assert not (tmp_path / 'beauty' / 'random' / 'config.json').exists()


def test_a_run_is_locked_until_its_row_is_written(tmp_path, monkeypatch):
  folder = tmp_path / 'beauty' / 'random'

  def check_lock(*unused):
    with pytest.raises(UsageError, match='another process uses'):
      with locked(folder):
        pass
    return []

  monkeypatch.setattr(runs, '_records', check_lock)
  monkeypatch.setattr(runs, '_run_stages', lambda *unused: None)
  monkeypatch.setattr(tables, 'make_table', lambda *unused: '')
  run(tiny('table2', 'random'), tmp_path)
  with locked(folder):
    pass


@pytest.mark.parametrize('name', ['results', 'results/table2_cpu', 'beauty'])
def test_an_experiment_is_not_written_through_a_link(tmp_path, name):
  outside = tmp_path / 'outside'
  outside.mkdir()
  link = tmp_path / 'run' / name
  link.parent.mkdir(parents=True)
  link.symlink_to(outside)
  with pytest.raises(UsageError, match=f'{name} is a link'):
    run(tiny('table2', 'random'), tmp_path / 'run')
  assert not list(outside.iterdir())


def test_a_saved_config_contains_no_local_paths(tmp_path):
  (tmp_path / 'encoder').mkdir()
  config = config_dict.from_json({
    'dataset': {'name': 'files', 'source_dir': f'{tmp_path}/shop/'},
    'embedding': {
      'model': f'{tmp_path}/encoder', 'path': f'{tmp_path}/a.npy',
      'ids_path': f'{tmp_path}/a.json',
    },
    'semantic_ids': {'shared_with': [f'{tmp_path}/toys/items']},
  })  # fmt: skip
  assert str(tmp_path) not in json.dumps(runs._portable(config))
  assert embedding.encoder_name(config.embedding) == 'encoder'
  hub = config_dict.from_json({'embedding': {'model': 'someone/model'}})
  assert runs._portable(hub)['embedding']['model'] == 'someone/model'


@pytest.mark.slow
def test_an_interrupted_experiment_keeps_finished_runs(tmp_path, monkeypatch):
  spec = tiny('layers', '1 layer', '2 layers')
  build, calls = evaluation.build, []

  def build_or_interrupt(session, *arguments):
    calls.append(session.config.model.num_encoder_layers)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return build(session, *arguments)

  monkeypatch.setattr(evaluation, 'build', build_or_interrupt)
  with pytest.raises(KeyboardInterrupt):
    run(spec, tmp_path)
  table = run(spec, tmp_path)
  assert calls == [1, 2, 2]
  assert '| 1 layer |' in table and '| 2 layers |' in table


@pytest.mark.slow
def test_every_baseline_runs(tmp_path):
  names = (
    'popularity', 'Semantic-KNN', 'MF', 'two towers', 'GRU4Rec', 'BERT4Rec',
    'SASRec, BCE', 'SASRec, sampled softmax', 'VQ-Rec', 'DSI',
  )  # fmt: skip
  spec = tiny('table1', *names)
  spec.runs['VQ-Rec'].semantic_ids.codebook_sizes = (4,) * 4
  table = run(spec, tmp_path)
  assert all(f'| {name} |' in table for name in names)
  saved = records.read_all(tmp_path / 'results')
  with_ids = {x['run'] for x in saved if x['collision_rate'] is not None}
  assert with_ids == {'VQ-Rec', 'DSI'}
  assert not (tmp_path / 'beauty' / 'gru4rec' / 'embedding').exists()


@pytest.mark.slow
def test_cold_start_has_a_row_for_each_rule_and_epsilon(tmp_path):
  spec = tiny('cold_start')
  spec.runs.TIGER.dataset.unseen_share = 0.2
  table = run(spec, tmp_path)
  rules = 'prefix rule', 'coarse prefix rule', 'exact scores', 'Semantic-KNN'
  for rule in rules:
    assert f'| {rule}, epsilon 0.1 |' in table
  saved = records.read_all(tmp_path / 'results')
  assert len(saved) == 12
  by_rule = {x['run']: x['metrics']['test']['recall@50'] for x in saved}
  for rule in rules:
    shares = [by_rule[f'{rule}, epsilon {x}'] for x in (0.1, 0.2, 0.3)]
    assert shares == sorted(shares)


@pytest.mark.slow
def test_experiments_on_trained_models_write_their_rows(tmp_path):
  table = run(tiny('diversity'), tmp_path / 'diversity')
  assert [x for x in ('the best', 'T=1.0', 'T=2.0') if f'| {x} |' in table] == [
    'the best', 'T=1.0', 'T=2.0',
  ]  # fmt: skip
  table = run(tiny('breakdown', 'TIGER'), tmp_path / 'breakdown')
  assert '| TIGER, all |' in table
  table = run(tiny('breakdown'), tmp_path / 'breakdown')
  assert '| SASRec, memorization |' in table and '| TIGER, all |' in table
  table = run(tiny('ensemble'), tmp_path / 'ensemble')
  for row in ('TIGER', 'TIGER, transitions'):
    assert f'| SASRec + {row} |' in table
    assert f'| SASRec + {row}, adaptive |' in table
  table = run(tiny('mixture'), tmp_path / 'mixture')
  for row in ('TIGER', 'transitions', 'constant weight', 'weight by count'):
    assert f'| {row} |' in table


@pytest.mark.slow
def test_three_shops_can_share_ids(tmp_path):
  spec = tiny('shared_ids')
  # Each shop has its own vectors, so that the IDs of three shops differ from
  # the IDs of Beauty.
  for shop, users in (('sports', 70), ('toys', 80)):
    with spec.unlocked():
      spec.datasets[shop].dataset.synthetic_users = users
      spec.datasets[shop].embedding = {
        'encoder': 'precomputed',
        **vectors(tmp_path, shop),
      }
  with spec.unlocked():
    spec.datasets.beauty.embedding = {
      'encoder': 'precomputed',
      **vectors(tmp_path, 'beauty'),
    }
  table = run(spec, tmp_path / 'run')
  assert '| IDs of three shops |' in table and '| IDs of Beauty |' in table
  saved = records.read_all(tmp_path / 'run' / 'results')
  shared = [x['config']['semantic_ids']['shared_with'] for x in saved]
  assert sorted(map(len, shared)) == [0, 2]


def vectors(folder, shop):
  """Writes random vectors for the items of a shop, and returns the paths."""
  items = synthetic.make(64, seed=0).items
  rng = np.random.default_rng(sum(map(ord, shop)))
  np.save(folder / f'{shop}.npy', rng.normal(size=(len(items), 8)))
  ids = folder / f'{shop}.json'
  ids.write_text(json.dumps(items.ids))
  return {'path': str(folder / f'{shop}.npy'), 'ids_path': str(ids)}


def test_an_ensemble_of_one_run_is_refused_before_its_training(tmp_path):
  with pytest.raises(UsageError, match="two of 'SASRec', 'TIGER', 'TIGER, tr"):
    run(tiny('ensemble', 'SASRec'), tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_the_error_for_missing_files_names_the_flag_to_set(tmp_path):
  spec = spec_of('layers')
  spec.datasets.beauty.dataset.source_dir = str(tmp_path)
  with pytest.raises(DataError) as error:
    run(spec, tmp_path / 'run')
  assert 'datasets.beauty.dataset.source_dir' in str(error.value)
  spec = spec_of('layers')
  spec.base.embedding.encoder = 'precomputed'
  with pytest.raises(DataError) as error:
    run(spec, tmp_path / 'run')
  assert '--config.datasets.beauty.embedding.path' in str(error.value)
  assert 'sentence-transformers' in str(error.value)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_the_error_for_an_invalid_field_names_the_run():
  spec = spec_of('layers')
  spec.runs['1 layer'].model.num_encoder_layers = 0
  with pytest.raises(UsageError, match='beauty, 1 layer.*num_encoder_layers'):
    parse(spec, COMMAND)


@pytest.mark.parametrize(
  ('field', 'known'),
  [('order', "'1 layer', '2 layers'"), ('measured', 'beauty')],
)
def test_an_unknown_name_in_a_spec_is_refused(field, known):
  spec = spec_of('layers')
  spec[field] = ('nothing',)
  with pytest.raises(UsageError) as error:
    parse(spec, COMMAND)
  assert f"config.{field} names 'nothing': choose from" in str(error.value)
  assert known in str(error.value)


def test_table_1_has_the_paper_config_of_each_shop():
  spec = spec_of('table1', '')
  spec.order = ('TIGER, paper',)
  configs = {run.dataset: run.config for run in parse(spec, COMMAND).runs}
  for shop, config in configs.items():
    module = importlib.import_module(f'configs.{shop}')
    expected = config_dict.from_json(module.get_config('paper').to_dict())
    for name in ('semantic_ids', 'model', 'train'):
      assert getattr(config, name) == getattr(expected, name), (shop, name)


def test_table_1_and_cold_start_give_semantic_knn_equally_long_histories():
  run_changes = spec_of('table1').runs['Semantic-KNN']
  assert run_changes.model.max_history == cold_start.NUM_LATEST


def test_an_unknown_variant_is_refused():
  with pytest.raises(UsageError, match="'gpu'.*cpu"):
    spec_of('layers', 'gpu')
