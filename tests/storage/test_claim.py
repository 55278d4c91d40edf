"""Tests of the check that a run may write to a folder."""

import json

import pytest

from tiger_jax.errors import UsageError
from tiger_jax.storage.artifacts import run_stage
from tiger_jax.storage.claim import claim, is_run, make_folder
from tiger_jax.storage.fingerprints import fingerprint

CONFIG = {
  name: {}
  for name in ('seed', 'dataset', 'embedding', 'semantic_ids', 'model', 'train')
}


def test_creates_a_missing_folder(tmp_path):
  claim(tmp_path / 'a' / 'b')
  assert (tmp_path / 'a' / 'b').is_dir()


@pytest.mark.parametrize('name', ['lost+found', '.DS_Store', 'train.log'])
def test_accepts_files_that_the_system_creates(tmp_path, name):
  (tmp_path / name).touch()
  claim(tmp_path)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('thesis.tex', 'mine'),
    ('config.json', '{"my": 1}'),
    ('config.json', '[]'),
    ('config.json', '[' * 100_000),
    ('.lock', 'of another program'),
    ('data', ''),
    ('results/a/b/c.json', '{"mine": 1}'),
    ('data/stage.json', '{"mine": 1}'),
    ('runs/quickstart/config.json', json.dumps(CONFIG)),
  ],
)
def test_refuses_an_unrelated_folder(tmp_path, name, content):
  path = tmp_path / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content)
  with pytest.raises(UsageError, match='is not empty') as error:
    claim(tmp_path)
  assert '\n' not in str(error.value)
  assert str(tmp_path) in str(error.value)
  assert path.read_text() == content


def _lock(folder):
  (folder / '.lock').touch()


def _config(folder):
  (folder / 'config.json').write_text(json.dumps(CONFIG))


def _stage(folder):
  run_stage(folder, 'data', fingerprint(1), lambda folder: None, metadata={})


def _results(folder):
  rows = make_folder(folder, 'results', 'layers', 'beauty')
  row = {'schema': 1, 'experiment': 'layers', 'run': '1 layer'}
  (rows / '1_layer.json').write_text(json.dumps(row))


@pytest.mark.parametrize('mark', [_lock, _config, _stage, _results])
def test_one_file_of_a_run_identifies_its_folder(tmp_path, mark):
  (tmp_path / 'notes.txt').write_text('mine')
  assert not is_run(tmp_path)
  mark(tmp_path)
  assert is_run(tmp_path)
  claim(tmp_path)


@pytest.mark.parametrize('name', ['config.json', 'results.json'])
def test_refuses_to_replace_a_file_of_another_program(tmp_path, name):
  """Here, an empty `.lock` is not enough: other programs create it, too."""
  _lock(tmp_path)
  (tmp_path / name).write_text('{"mine": 1}')
  with pytest.raises(UsageError, match='is not the folder of a run'):
    claim(tmp_path)
  assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_lock_that_is_a_link_does_not_identify_a_run(tmp_path):
  (tmp_path / 'empty').touch()
  folder = tmp_path / 'folder'
  folder.mkdir()
  (folder / '.lock').symlink_to(tmp_path / 'empty')
  assert not is_run(folder)


@pytest.mark.parametrize('name', ['metrics.jsonl', 'metrics.partial'])
def test_refuses_a_link_in_place_of_a_file_that_is_appended_to(tmp_path, name):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  folder = tmp_path / 'run'
  claim(folder)
  _lock(folder)
  (folder / name).symlink_to(victim)
  with pytest.raises(UsageError, match=f'{name} is a link'):
    claim(folder)
  assert victim.read_text() == 'precious'


def test_accepts_a_workdir_that_is_a_link(tmp_path):
  (tmp_path / 'disk').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'disk')
  claim(tmp_path / 'link')
  claim(tmp_path / 'link' / 'run')
  assert (tmp_path / 'disk' / 'run').is_dir()


def test_make_folder_refuses_a_link(tmp_path):
  (tmp_path / 'outside').mkdir()
  (tmp_path / 'results').symlink_to(tmp_path / 'outside')
  with pytest.raises(UsageError, match='results is a link'):
    make_folder(tmp_path, 'results', 'layers')
  assert not any((tmp_path / 'outside').iterdir())


def test_refuses_a_file_in_place_of_the_folder(tmp_path):
  (tmp_path / 'run').write_text('mine')
  with pytest.raises(UsageError, match='choose another --workdir') as error:
    claim(tmp_path / 'run')
  assert '\n' not in str(error.value)
