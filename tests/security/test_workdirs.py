"""Tests that workdirs from other users are checked before use."""

import json
import shutil

import pytest

from tests import small, typed
import tiger_jax
from tiger_jax.errors import TigerError
from tiger_jax.serving.recommender import Recommender

QUICKSTART = (
  f'--config={small.ROOT}/configs/quickstart.py',
  '--mode=data',
  '--config.dataset.synthetic_users=5',
)


@pytest.fixture(name='copy')
def _copy(trained, tmp_path):
  """Copies a finished run, so that a test can change the copy."""
  return shutil.copytree(trained, tmp_path / 'received')


def change(workdir, stage, function):
  """Applies a function to the record of a stage."""
  path = workdir / stage / 'stage.json'
  record = json.loads(path.read_text())
  function(record)
  path.write_text(json.dumps(record))


def load_error(workdir):
  """Returns the message of the error that loading a workdir raises."""
  with pytest.raises(TigerError) as error:
    Recommender.from_workdir(workdir)
  message = str(error.value)
  assert '\n' not in message
  assert len(message) < 1000
  assert error.value.exit_code in (3, 4)
  return message


def test_a_crafted_record_removes_nothing(tmp_path):
  home = tmp_path / 'home'
  run = home / 'received'
  (run / 'data').mkdir(parents=True)
  # With this folder, the path `data./../..` is the home folder.
  (run / 'data.').mkdir()
  (home / 'final.tex').write_text('precious')
  record = {'fingerprint': '/../..', 'seconds': 1, 'about': {}}
  (run / 'data' / 'stage.json').write_text(json.dumps(record))
  done = typed.run(*QUICKSTART, f'--workdir={run}', cwd=tmp_path)
  assert done.code == 3
  assert f'{run}/data/stage.json is damaged' in done.refusal
  assert (home / 'final.tex').read_text() == 'precious'


def test_refuses_an_unrelated_folder(tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'config.json').write_text('{"my": 1}')
  (other / 'results.json').write_text('{"mine": 1}')
  (other / 'metrics.jsonl').write_text('mine\n')
  done = typed.run(*QUICKSTART, f'--workdir={other}', cwd=tmp_path)
  assert done.code == 2
  assert f'{other} is not empty' in done.refusal
  assert (other / 'config.json').read_text() == '{"my": 1}'
  assert (other / 'results.json').read_text() == '{"mine": 1}'
  assert (other / 'metrics.jsonl').read_text() == 'mine\n'
  assert len(list(other.iterdir())) == 3


def test_reuses_a_workdir_without_format_numbers(copy, trained):
  def remove_format(record):
    del record['format'], record['files']

  for stage in ('data', 'embedding', 'semantic_ids', 'train', 'evaluation'):
    change(copy, stage, remove_format)
  # `cp -r run/* copy` does not copy hidden files.
  (copy / '.lock').unlink()
  shop = trained.parent / 'shop'
  done = typed.run(
    *small.FLAGS,
    '--mode=evaluate',
    f'--config.dataset.source_dir={shop}',
    f'--workdir={copy}',
    cwd=copy.parent,
  )
  assert done.code == 0, done.err
  assert done.out.count('reused') == 5
  assert 'made in' not in done.out


def test_the_error_for_an_unknown_field_names_both_versions(copy):
  def add_field(record):
    record['about']['config']['model']['use_bias'] = True
    record['about']['environment']['tiger_jax'] = '9.8.7'

  change(copy, 'train', add_field)
  message = load_error(copy)
  assert 'use_bias' in message and str(copy) in message
  assert '9.8.7' in message and tiger_jax.__version__ in message


def test_refuses_a_newer_format(copy):
  change(copy, 'data', lambda record: record.update(format=99))
  assert 'format 99' in load_error(copy)


def test_reads_an_older_record_that_lacks_a_field(copy):
  change(
    copy,
    'train',
    lambda record: record['about']['config']['dataset'].pop('shuffle_ties'),
  )
  assert Recommender.from_workdir(copy).dataset.num_items == 40


@pytest.mark.parametrize(
  ('section', 'field', 'value'),
  [
    ('train', 'replicas', 10**9),
    ('model', 'd_model', 10**9),
    ('model', 'num_encoder_layers', 10**6),
    ('train', 'learning_rates', [1e-3] * 10**5),
    ('model', 'mlp_dim', 10**400),
    ('model', 'name', 'x' * 10**6),
    ('model', 'name', 'gpt'),
    ('dataset', 'source_dir', 'x' * 10**6),
  ],
)
def test_refuses_settings_that_are_too_large(copy, section, field, value):
  def set_value(record):
    record['about']['config'][section][field] = value

  change(copy, 'train', set_value)
  message = load_error(copy)
  assert field in message and f'{copy}/train/stage.json' in message


@pytest.mark.parametrize(
  'metadata', [[], None, {'config': []}, {'config': {'model': 3}}]
)
def test_refuses_a_record_without_the_expected_structure(copy, metadata):
  change(copy, 'train', lambda record: record.update(about=metadata))
  assert 'stage.json' in load_error(copy)


@pytest.mark.parametrize(
  'name', ['train/stage.json', 'data/stage.json', 'data/dataset.json',
           'data/items.parquet', 'data/users.parquet',
           'semantic_ids/semantic_ids.json', 'semantic_ids/semantic_ids.npz']
)  # fmt: skip
@pytest.mark.parametrize('content', ['', '[' * 100_000, '\0' * 99])
def test_refuses_a_damaged_file(copy, name, content):
  (copy / name).write_text(content)
  assert str(copy / name.split('/')[0]) in load_error(copy)


def test_detects_changed_data(copy):
  path = copy / 'data' / 'items.parquet'
  # The file is still Parquet of the same size. Only the id of an item differs.
  changed = path.read_bytes().replace(b'A003', b'A903')
  assert changed != path.read_bytes()
  path.write_bytes(changed)
  assert f'{path} is damaged' in load_error(copy)
