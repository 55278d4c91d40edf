"""What makes a stage run again, and what does not."""

import json
from pathlib import Path

import numpy as np
import pytest

from tiger_jax import pipeline
from tiger_jax.config_dict import from_json
from tiger_jax.errors import DataError
from tiger_jax.workdir import Artefact

STAGES = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')


@pytest.fixture(name='prints')
def _prints(monkeypatch, tmp_path):
  """Returns the fingerprint of every stage of a config; nothing is made."""

  def run_stage(workdir, name, wanted, build, **unused):
    return Artefact(workdir / name, wanted, 0.0, {}), False

  monkeypatch.setattr(pipeline, 'run_stage', run_stage)

  def prints(config):
    found = pipeline.Pipeline(from_json(config), tmp_path / 'run')
    return {name: getattr(found, name).fingerprint for name in STAGES}

  return prints


@pytest.fixture(name='changed')
def _changed(prints):
  """Returns which stages another config makes again."""

  def changed(one, two):
    before, after = prints(one), prints(two)
    return [name for name in STAGES if before[name] != after[name]]

  return changed


def with_dataset(**values):
  return {'dataset': values}


@pytest.mark.parametrize(
  ('one', 'two', 'first'),
  [
    ({}, {'seed': 1}, 'data'),
    ({}, with_dataset(synthetic_users=10), 'data'),
    ({}, with_dataset(source_dir='elsewhere'), None),
    (with_dataset(name='amazon2014/Beauty'), {
      'dataset': {'name': 'amazon2014/Beauty'}, 'seed': 1,
    }, 'semantic_ids'),
    (with_dataset(name='amazon2014/Beauty'),
     with_dataset(name='amazon2014/Beauty', synthetic_users=10), None),
    (with_dataset(name='amazon2014/Beauty'),
     with_dataset(name='amazon2014/Beauty', drop_short_users=True), 'data'),
    ({}, {'embedding': {'encoder': 'tfidf-svd'}}, 'embedding'),
    ({}, {'embedding': {'dim': 3}}, None),
    ({}, {'embedding': {'model': 'another'}}, 'embedding'),
    ({'embedding': {'encoder': 'tfidf-svd'}},
     {'embedding': {'encoder': 'tfidf-svd', 'dim': 3}}, 'embedding'),
    ({}, {'semantic_ids': {'epochs': 7}}, 'semantic_ids'),
    ({}, {'model': {'dropout': 0.3}}, 'train'),
    ({}, {'train': {'optimizer': {'learning_rate': 0.5}}}, 'train'),
    ({}, {'evaluation': {'num_beams': 50}}, 'evaluation'),
  ],
)  # fmt: skip
def test_a_change_runs_from_the_stage_that_reads_it(changed, one, two, first):
  expected = STAGES[STAGES.index(first) :] if first else ()
  assert changed(one, two) == list(expected)


@pytest.mark.parametrize(
  ('changes', 'kept'),
  [
    ({'shuffle_ties': True}, ['embedding', 'semantic_ids']),
    ({'unseen_share': 0.1}, ['embedding']),
  ],
)
def test_the_items_stay_when_purchases_change(changed, changes, kept):
  again = changed({}, with_dataset(**changes))
  assert again == [name for name in STAGES if name not in kept]


def test_files_count_by_what_is_in_them(prints, tmp_path):
  raw = tmp_path / 'raw'
  raw.mkdir()
  reviews = raw / 'reviews_Beauty_5.json.gz'
  reviews.write_bytes(b'one')
  config = with_dataset(name='amazon2014/Beauty', source_dir=str(raw))
  before = prints(config)
  (raw / 'notes.txt').write_text('nobody reads this')
  assert prints(config) == before
  raw.rename(tmp_path / 'moved')
  config['dataset']['source_dir'] = str(tmp_path / 'moved')
  assert prints(config) == before
  (tmp_path / 'moved' / reviews.name).write_bytes(b'two')
  assert prints(config)['data'] != before['data']


def test_a_local_encoder_counts_by_its_files(prints, tmp_path):
  weights = tmp_path / 'encoder' / '1_Pooling' / 'config.json'
  weights.parent.mkdir(parents=True)
  weights.write_text('{}')
  config = {'embedding': {'model': str(tmp_path / 'encoder')}}
  before = prints(config)
  weights.write_text('{"a": 1}')
  after = prints(config)
  assert after['data'] == before['data']
  assert after['embedding'] != before['embedding']


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'not an array'])
def test_damaged_vectors_are_one_line(prints, tmp_path, content):
  del prints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  folder = Path(run.embedding.folder)
  folder.mkdir()
  (folder / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match='is damaged') as error:
    _ = run.embeddings
  assert 'embeddings.npy' in str(error.value)
  np.save(folder / 'embeddings.npy', np.ones((3, 2), np.float32))
  assert run.embeddings.shape == (3, 2)


def test_damaged_metrics_are_one_line(prints, tmp_path):
  del prints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  folder = Path(run.evaluation.folder)
  folder.mkdir()
  (folder / 'metrics.json').write_text(json.dumps({'metrics': {}})[:-2])
  with pytest.raises(DataError, match=r'metrics\.json is damaged'):
    _ = run.results


def test_the_readme_is_finished():
  readme = (Path(__file__).parents[1] / 'README.md').read_text()
  assert '@@' not in readme
  for name in ('configs/beauty.py', 'configs/own_data.py', 'configs/toys.py'):
    assert name in readme
