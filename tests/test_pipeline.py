"""Tests of the changes that make a stage run again."""

import json
from pathlib import Path
import tempfile

import numpy as np
import pytest

from tiger_jax import pipeline
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config.config_dict import from_json
from tiger_jax.data import counts
from tiger_jax.data.batches import TrainBatches
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage import artifacts, record
from tiger_jax.storage.artifacts import Artifact

STAGES = ('data', 'embedding', 'semantic_ids', 'train', 'evaluation')


@pytest.fixture(name='fingerprints')
def _fingerprints(monkeypatch, tmp_path):
  """Returns a function from a config to the fingerprints of its stages."""

  def run_stage(workdir, name, wanted, build, **unused):
    return Artifact(workdir / name, wanted, 0.0, {}), False

  monkeypatch.setattr(artifacts, 'run_stage', run_stage)

  def fingerprints(config):
    run = pipeline.Pipeline(from_json(config), tmp_path / 'run')
    return {name: getattr(run, f'{name}_stage').fingerprint for name in STAGES}

  return fingerprints


@pytest.fixture(name='changed')
def _changed(fingerprints):
  """Returns a function that names the stages in which two configs differ."""

  def changed(one, two):
    before, after = fingerprints(one), fingerprints(two)
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
def test_a_change_reruns_the_stage_that_reads_it_and_later_ones(
  changed, one, two, first
):
  expected = STAGES[STAGES.index(first) :] if first else ()
  assert changed(one, two) == list(expected)


@pytest.mark.parametrize(
  ('changes', 'kept'),
  [
    ({'shuffle_ties': True}, ['embedding', 'semantic_ids']),
    ({'unseen_share': 0.1}, ['embedding']),
  ],
)
def test_changed_histories_do_not_rerun_the_embedding(changed, changes, kept):
  reruns = changed({}, with_dataset(**changes))
  assert reruns == [name for name in STAGES if name not in kept]


def test_fingerprints_depend_on_file_contents(fingerprints, tmp_path):
  raw = tmp_path / 'raw'
  raw.mkdir()
  reviews = raw / 'reviews_Beauty_5.json.gz'
  reviews.write_bytes(b'one')
  config = with_dataset(name='amazon2014/Beauty', source_dir=str(raw))
  before = fingerprints(config)
  (raw / 'notes.txt').write_text('not a file of the dataset')
  assert fingerprints(config) == before
  raw.rename(tmp_path / 'moved')
  config['dataset']['source_dir'] = str(tmp_path / 'moved')
  assert fingerprints(config) == before
  (tmp_path / 'moved' / reviews.name).write_bytes(b'two')
  assert fingerprints(config)['data'] != before['data']


def test_fingerprints_depend_on_the_files_of_a_local_encoder(
  fingerprints, tmp_path
):
  weights = tmp_path / 'encoder' / '1_Pooling' / 'config.json'
  weights.parent.mkdir(parents=True)
  weights.write_text('{}')
  config = {'embedding': {'model': str(tmp_path / 'encoder')}}
  before = fingerprints(config)
  weights.write_text('{"a": 1}')
  after = fingerprints(config)
  assert after['data'] == before['data']
  assert after['embedding'] != before['embedding']


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'not an array'])
def test_damaged_vectors_raise_a_one_line_error(
  fingerprints, tmp_path, content
):
  del fingerprints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  folder = Path(run.embedding_stage.folder)
  folder.mkdir()
  (folder / 'embeddings.npy').write_bytes(content)
  with pytest.raises(DataError, match='is damaged') as error:
    _ = run.embeddings
  assert 'embeddings.npy' in str(error.value)
  np.save(folder / 'embeddings.npy', np.ones((3, 2), np.float32))
  assert run.embeddings.shape == (3, 2)


# Each entry is a config, with the fingerprints that older versions computed for
# its data and embedding stages. These versions wrote records without a format
# number. The fingerprints must stay equal, so that the stages do not run again.
_FORMER_FINGERPRINTS = [
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


@pytest.mark.parametrize('recorded', _FORMER_FINGERPRINTS)
def test_data_and_embeddings_of_older_versions_stay_valid(
  fingerprints, recorded
):
  config, *expected = recorded
  assert list(fingerprints(config).values())[:2] == expected


@pytest.mark.parametrize('version', ['former', 'current'])
def test_a_data_stage_with_old_row_numbers_runs_again(
  fingerprints, tmp_path, capsys, version
):
  config = with_dataset(
    name='amazon2014/Beauty',
    drop_short_users=True,
    unseen_share=0.1,
    shuffle_ties=True,
  )
  # Made by a version that numbered the items in the order of the events.
  former = '699d66ac805ba6737fc0a7aeb06a5810f3297e538b72808ad3b3d44881b0ba9f'
  current = fingerprints(config)['data']
  assert current != former
  folder = tmp_path / 'run' / 'data'
  folder.mkdir(parents=True)
  recorded = former if version == 'former' else current
  record.write(folder, recorded, 1.0, {'config': {}})
  capsys.readouterr()
  fingerprints(config)
  message = 'data: items have new row numbers, so all stages run again'
  assert (message in capsys.readouterr().out) == (version == 'former')


def test_setting_a_new_field_changes_the_fingerprints(changed):
  files = with_dataset(name='files')
  assert changed(files, with_dataset(name='files', keep_repeats=True)) == list(
    STAGES
  )


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'model': {'name': 'tigr'}}, 'did you mean tiger'),
    ({'semantic_ids': {'quantizer': 'rqkmeans'}}, 'did you mean rq_kmeans'),
    ({'train': {'optimizer': {'warmup_steps': 10**6}}}, 'warmup_steps'),
  ],
)
def test_refuses_a_wrong_config_before_writing(tmp_path, config, message):
  with pytest.raises(UsageError, match=message):
    with pipeline.open_run(from_json(config), tmp_path / 'run'):
      pass
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'dataset': {'name': 'files'}}, 'source_dir is empty'),
    ({'parallel': {'tensor': 3}}, 'number of devices, 8'),
    ({'train': {'batch_size': 12}}, '8 devices cannot share evenly: try 8'),
  ],
)
def test_a_run_from_python_is_refused_before_the_data_stage(
  tmp_path, config, message
):
  with pytest.raises(UsageError, match=message):
    pipeline.run(from_json(config), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_from_python_refuses_a_workdir_that_orbax_cannot_use(
  tmp_path, monkeypatch
):
  # Orbax supports neither the workdir nor the temporary folder. A link in the
  # temporary folder therefore does not help.
  temporary = tmp_path / 'b:c'
  temporary.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
  with pytest.raises(UsageError, match="has the character ':'"):
    pipeline.run(from_json({}), tmp_path / 'a:b')
  assert not (tmp_path / 'a:b').exists()


@pytest.mark.parametrize(
  ('config', 'error', 'message'),
  [
    ({'train': {'batch_size': 8000}}, DataError, 'fewer than one batch'),
    (
      {'semantic_ids': {'codebook_sizes': [601, 8]}},
      UsageError,
      'more codes than there are items, 600',
    ),
  ],
)
def test_a_run_from_python_is_refused_after_the_data_stage(
  tmp_path, config, error, message
):
  config = from_json(config | with_dataset(synthetic_users=5))
  with pytest.raises(error, match=message):
    pipeline.run(config, tmp_path)
  assert (tmp_path / 'data').exists()
  assert not list(tmp_path.glob('embedding*'))


def test_writes_nothing_before_a_stage_runs(fingerprints, tmp_path):
  """`--mode=bench` creates a pipeline, but must not change `config.json`."""
  del fingerprints
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
  assert 'kept: train.01234567, made with different configs' in out


def test_counts_of_the_data_are_printed_and_saved(tmp_path, capsys):
  config = from_json(with_dataset(synthetic_users=5))
  for _ in range(2):  # The second run reuses the stage.
    run = pipeline.Pipeline(config, tmp_path)
    run.run('data')
    saved_counts = counts.read(run.data_stage.folder)
    assert run.data_stage.metadata['counts'] == saved_counts
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, x in enumerate(lines) if 'interactions' in x) + 1
    expected = counts.lines(saved_counts)
    assert expected
    assert [x.strip(' :') for x in lines[start:]] == expected


@pytest.fixture(name='calls')
def _calls(monkeypatch):
  """Returns the names of the methods that were called, in order."""
  calls = []

  def recorded(method):
    def call(*args):
      calls.append(method.__qualname__)
      return method(*args)

    return call

  for cls, name in ((TrainBatches, '__init__'), (Checkpoints, 'restore')):
    monkeypatch.setattr(cls, name, recorded(getattr(cls, name)))
  return calls


def test_a_run_makes_batches_once_and_restores_parameters_once(tmp_path, calls):
  run = pipeline.Pipeline(
    from_json(
      with_dataset(synthetic_users=30)
      | {
        'model': {'name': 'matrix_factorization', 'd_model': 2},
        'train': {
          'steps': 4,
          'batch_size': 8,
          'evaluate_every': 2,
          'optimizer': {'warmup_steps': 1},
        },
      }
    ),
    tmp_path,
  )
  run.run('evaluate')
  # The examples of --mode=all use these parameters too.
  params, _ = run.trained
  run.close()
  assert params
  assert calls == ['TrainBatches.__init__', 'Checkpoints.restore']


def test_refuses_vectors_that_are_not_a_matrix(fingerprints, tmp_path):
  del fingerprints
  run = pipeline.Pipeline(from_json({}), tmp_path / 'run')
  Path(run.embedding_stage.folder).mkdir()
  np.save(run.embedding_stage.folder / 'embeddings.npy', np.ones(3, np.float32))
  with pytest.raises(DataError, match=r'embeddings\.npy is damaged.*\[3\]'):
    _ = run.embeddings


def test_the_readme_names_the_configs():
  readme = (Path(__file__).parents[1] / 'README.md').read_text()
  for name in ('configs/beauty.py', 'configs/own_data.py', 'configs/toys.py'):
    assert name in readme
