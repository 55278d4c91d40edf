"""What makes a stage run again, and what does not."""

import json
from pathlib import Path

import numpy as np
import pytest

from tiger_jax import pipeline
from tiger_jax.config.config_dict import from_json
from tiger_jax.data import counts
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import record
from tiger_jax.storage.artifacts import Artifact

STAGES = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')


@pytest.fixture(name='prints')
def _prints(monkeypatch, tmp_path):
  """Returns the fingerprint of every stage of a config; nothing is made."""

  def run_stage(workdir, name, wanted, build, **unused):
    return Artifact(workdir / name, wanted, 0.0, {}), False

  monkeypatch.setattr(pipeline, 'run_stage', run_stage)

  def prints(config):
    found = pipeline.Pipeline(from_json(config), tmp_path / 'run')
    return {
      name: getattr(found, f'{name}_stage').fingerprint for name in STAGES
    }

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
  folder = Path(run.embedding_stage.folder)
  folder.mkdir()
  (folder / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match='is damaged') as error:
    _ = run.embeddings
  assert 'embeddings.npy' in str(error.value)
  np.save(folder / 'embeddings.npy', np.ones((3, 2), np.float32))
  assert run.embeddings.shape == (3, 2)


# What versions before the format number made of the data and the embeddings of
# these configs. Raw files must not be read again, nor items embedded again.
_BEFORE = [
  (
    {},
    '9209583012d1ed546cf5bde133f2852305b065b8f390ecb68e2fa60b5b592e98',
    '20fb3dd3458c83be3e032dc2e84ae30be8c9c207cb7521a4442236aa1dd90c62',
  ),
  (
    {
      'dataset': {'unseen_share': 0.1, 'shuffle_ties': True},
      'embedding': {'encoder': 'tfidf-svd'},
    },
    'acca680c748a196646c64b43167aaf9c11e8df51fb439d7dda6089c904541c3b',
    '02a2532588f7f98b81fa1e6dd63f520630dd01d3bf8e2deacfe4fa42e5b25cd8',
  ),
]


@pytest.mark.parametrize('recorded', _BEFORE)
def test_items_of_older_versions_stay_valid(prints, recorded):
  config, *expected = recorded
  assert list(prints(config).values())[:2] == expected


@pytest.mark.parametrize('version', ['former', 'current'])
def test_rows_in_the_order_of_the_events_are_made_again(
  prints, tmp_path, capsys, version
):
  config = with_dataset(
    name='amazon2014/Beauty',
    drop_short_users=True,
    unseen_share=0.1,
    shuffle_ties=True,
  )
  # The fingerprint of versions that numbered items in the order of the events.
  former = '699d66ac805ba6737fc0a7aeb06a5810f3297e538b72808ad3b3d44881b0ba9f'
  current = prints(config)['data']
  assert current != former
  folder = tmp_path / 'run' / 'data'
  folder.mkdir(parents=True)
  made = former if version == 'former' else current
  record.write(folder, made, 1.0, {'config': {}})
  capsys.readouterr()
  prints(config)
  said = 'data: items have new row numbers, so all stages run again'
  assert (said in capsys.readouterr().out) == (version == 'former')


def test_a_new_field_changes_the_fingerprint_when_it_is_set(changed):
  files = with_dataset(name='files')
  assert changed(files, with_dataset(name='files', keep_repeats=True)) == list(
    STAGES
  )


@pytest.mark.parametrize(
  ('config', 'named'),
  [
    ({'model': {'name': 'tigr'}}, 'did you mean tiger'),
    ({'semantic_ids': {'quantizer': 'rqkmeans'}}, 'did you mean rq_kmeans'),
    ({'train': {'optimizer': {'warmup_steps': 10**6}}}, 'warmup_steps'),
  ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(
  tmp_path, config, named
):
  with pytest.raises(UsageError, match=named):
    pipeline.Pipeline(from_json(config), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_nothing_is_written_before_a_stage_is_asked_for(prints, tmp_path):
  """The mode `bench` does not change `config.json`."""
  del prints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  assert not list((tmp_path / 'run').iterdir())
  _ = run.data_stage
  assert not list((tmp_path / 'run').iterdir())


def test_a_run_saves_its_config_and_lists_superseded_stages(tmp_path, capsys):
  config = from_json(with_dataset(synthetic_users=5))
  (tmp_path / 'train.01234567').mkdir(parents=True)
  pipeline.Pipeline(config, tmp_path).run('data')
  written = json.loads((tmp_path / 'config.json').read_text())
  assert from_json(written) == config
  out = capsys.readouterr().out
  assert 'kept: train.01234567 of other configs; you may remove them' in out


def test_counts_of_the_data_are_printed_and_saved(tmp_path, capsys):
  config = from_json(with_dataset(synthetic_users=5))
  for _ in range(2):  # Made, and made before.
    run = pipeline.Pipeline(config, tmp_path)
    run.run('data')
    counted = counts.read(run.data_stage.folder)
    assert run.data_stage.about['counts'] == counted
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, x in enumerate(lines) if 'interactions' in x)
    expected = counts.lines(counted)
    assert expected
    assert [x.strip(' :') for x in lines[at + 1 :]] == expected


def test_vectors_that_are_not_a_matrix_are_refused(prints, tmp_path):
  del prints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  Path(run.embedding_stage.folder).mkdir()
  np.save(run.embedding_stage.folder / 'embeddings.npy', np.ones(3, np.float32))
  with pytest.raises(DataError, match=r'embeddings\.npy is damaged.*\[3\]'):
    _ = run.embeddings


def test_the_readme_is_finished():
  readme = (Path(__file__).parents[1] / 'README.md').read_text()
  assert '@@' not in readme
  for name in ('configs/beauty.py', 'configs/own_data.py', 'configs/toys.py'):
    assert name in readme
