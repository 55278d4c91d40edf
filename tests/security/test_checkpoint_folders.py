"""Tests that crafted checkpoints raise errors and that no files are lost."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from tests.training.running import Counter, Run
from tiger_jax.checkpoints import manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.checkpoints.ledger import Ledger
from tiger_jax.errors import CheckpointError

STATE = {'a': np.arange(6, dtype=np.float32)}


@pytest.fixture(name='saved', scope='module')
def _saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  with Checkpoints(folder, {}) as checkpoints:
    checkpoints.save(1, STATE, {'skipped': 0})
  return folder


@pytest.fixture(name='folder')
def _folder(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoints')


def restore_error(folder):
  """Returns the message of the error that a restore raises."""
  with pytest.raises(CheckpointError) as error:
    with Checkpoints(folder, {}, writes=False) as checkpoints:
      checkpoints.restore(1, STATE)
  message = str(error.value)
  assert '\n' not in message
  assert len(message) < 1000
  assert str(folder) in message
  return message


def forge_manifest(folder, files):
  """Adds files to a manifest, and updates its digest."""
  path = folder / '1' / 'manifest.json'
  contents = json.loads(path.read_text())
  contents['files'] |= files
  path.write_bytes(manifest._encode(contents))


def digest(data=b''):
  return [len(data), hashlib.sha256(data).hexdigest()]


@pytest.mark.parametrize(
  'name',
  [
    '/dev/zero', '/etc/hostname', '../1/meta.json', '../../outside',
    'state/../meta.json', './meta.json', 'state//_METADATA', '', '.', '..',
    'state',
  ],
)  # fmt: skip
def test_a_manifest_cannot_name_files_outside_its_folder(
  folder, name, monkeypatch
):
  (folder.parent / 'outside').write_bytes(b'x')
  forge_manifest(folder, {name: digest(b'x')})
  opened = []
  size_and_digest = manifest._size_and_digest
  monkeypatch.setattr(
    manifest,
    '_size_and_digest',
    lambda path: opened.append(path) or size_and_digest(path),
  )
  assert f'{name} is missing' in restore_error(folder)
  assert not opened


@pytest.mark.parametrize('kind', ['zero', 'file', 'folder', 'pipe'])
def test_refuses_links_and_pipes_in_a_checkpoint(folder, kind):
  path = folder / '1' / 'state' / 'more'
  if kind == 'pipe':
    os.mkfifo(path)
  else:
    target = {
      'zero': '/dev/zero', 'file': '../meta.json', 'folder': '..',
    }[kind]  # fmt: skip
    path.symlink_to(target)
  forge_manifest(folder, {'state/more': digest()})
  assert 'state/more is not a regular file' in restore_error(folder)


def test_compares_sizes_before_reading(folder, monkeypatch):
  """A sparse file of a terabyte takes no space, but reading it takes hours."""
  with (folder / '1' / 'state' / 'more').open('wb') as file:
    file.truncate(2**40)
  forge_manifest(folder, {'state/more': digest(b'x')})
  monkeypatch.setattr(manifest, '_size_and_digest', lambda path: 1 / 0)
  assert 'state/more is not as it was written' in restore_error(folder)


@pytest.mark.parametrize(
  'description', [None, 7, [], [1], {'size': 1}, ['1', 'x'], [[1], 2]]
)
def test_refuses_an_invalid_description_of_a_file(folder, description):
  (folder / '1' / 'state' / 'more').write_bytes(b'x')
  forge_manifest(folder, {'state/more': description})
  assert 'state/more is not as it was written' in restore_error(folder)


def test_refuses_a_manifest_of_too_many_files(folder):
  forge_manifest(folder, {f'state/{i}': digest() for i in range(50_000)})
  assert 'manifest.json is damaged' in restore_error(folder)


def test_refuses_a_checkpoint_of_too_many_entries(folder):
  state, num_entries = folder / '1' / 'state', len([*(folder / '1').rglob('*')])
  (state / '0').touch()
  # Links are created faster than files.
  for i in range(1, 2**15 - num_entries):
    os.link(state / '0', state / f'{i}')
  assert 'is not in manifest.json' in restore_error(folder)
  (state / 'folder').mkdir()
  assert 'holds more than 32768 entries' in restore_error(folder)


DEEP = [
  '[' * 100_000,
  '{"a":' * 100_000,
  '[' * 900 + ']' * 900,
  '{"files": ' + '[' * 900 + ']' * 900 + '}',
]


@pytest.mark.parametrize('text', [*DEEP, '[]', '7', '{"files": 7}'])
def test_refuses_an_invalid_manifest(folder, text):
  (folder / '1' / 'manifest.json').write_text(text)
  assert 'manifest.json is damaged' in restore_error(folder)


@pytest.mark.parametrize(
  'contents',
  [
    *DEEP, '[]', '{}', 'null', '{"about": {}, "arrays": {}, "meta": {}}',
    '{"about": 1, "arrays": {}, "meta": {}, "metrics": null}',
    '{"about": {}, "arrays": {}, "meta": {}, "metrics": {"ndcg": "high"}}',
    '{"about": {}, "arrays": {}, "meta": {"skipped": "x"}, "metrics": null}',
    '{"about": {}, "arrays": [], "meta": {}, "metrics": null}',
    '{"about": {}, "arrays": {}, "meta": [], "metrics": null}',
  ],
)  # fmt: skip
def test_refuses_an_invalid_meta_json(folder, contents):
  """The manifest has the right digest, which an attacker can compute."""
  (folder / '1' / 'meta.json').write_text(contents)
  manifest.write(folder / '1', {'step': 1})
  restore_error(folder)
  with Checkpoints(folder, {}, 'ndcg', writes=False) as checkpoints:
    assert checkpoints.by_metric() in ([1], [])


def make_precious(tmp_path):
  """Returns a folder that must not change."""
  other = tmp_path / 'thesis'
  other.mkdir()
  (other / 'final.tex').write_text('precious')
  return other


@pytest.mark.parametrize('name', ['8.partial', '3.old'])
@pytest.mark.parametrize('kind', ['link', 'file'])
def test_does_not_remove_links_or_files(folder, tmp_path, name, kind):
  other = make_precious(tmp_path)
  if kind == 'link':
    (folder / name).symlink_to(other)
  else:
    (folder / name).write_text('mine')
  with pytest.raises(CheckpointError, match='cannot be used') as error:
    Checkpoints(folder, {})
  assert '\n' not in str(error.value)
  assert (other / 'final.tex').read_text() == 'precious'
  assert (folder / name).exists()


@pytest.mark.parametrize('name', ['my.old', 'notes.partial', '1.older', '.old'])
def test_keeps_folders_with_similar_names(folder, name):
  (folder / name).mkdir()
  (folder / name / 'file').touch()
  with Checkpoints(folder, {}) as checkpoints:
    assert checkpoints.steps() == [1]
  assert (folder / name / 'file').exists()


def test_refuses_a_link_in_place_of_the_checkpoints_folder(folder, tmp_path):
  folder.rename(tmp_path / 'moved')
  folder.symlink_to(tmp_path / 'moved')
  for writes in (False, True):
    with pytest.raises(CheckpointError, match='is a link') as error:
      Checkpoints(folder, {}, writes=writes)
    assert '\n' not in str(error.value)


def test_refuses_a_link_with_the_name_of_a_step(folder, tmp_path):
  (folder / '1').rename(tmp_path / 'moved')
  (folder / '1').symlink_to(tmp_path / 'moved')
  with Checkpoints(folder, {}) as checkpoints:
    with pytest.raises(CheckpointError, match=r'checkpoints/1 is a link'):
      checkpoints.steps()


def test_refuses_a_link_that_appears_during_a_save(folder, tmp_path):
  other = make_precious(tmp_path)
  with pytest.raises(CheckpointError, match='cannot be saved .*exists'):
    with Checkpoints(folder, {}) as checkpoints:
      (folder / '8.partial').symlink_to(other)
      checkpoints.save(8, STATE, {})
  assert [x.name for x in other.iterdir()] == ['final.tex']


@pytest.mark.parametrize('name', ['01', '٣', '²', '1.0', '-1', '+2', '1_0'])
def test_ignores_names_that_are_not_steps(folder, name):
  (folder / name).mkdir()
  with Checkpoints(folder, {}) as checkpoints:
    assert checkpoints.steps() == [1]


def test_raises_an_error_if_the_folder_cannot_be_listed(tmp_path):
  (tmp_path / 'checkpoints').write_text('')
  with Checkpoints(tmp_path / 'checkpoints', {}, writes=False) as checkpoints:
    with pytest.raises(CheckpointError, match='it cannot be read .*directory'):
      checkpoints.steps()


@pytest.mark.parametrize('name', ['ledger', 'goodput.jsonl', 'metrics.jsonl'])
def test_a_run_does_not_write_through_a_link(tmp_path, name):
  victim = tmp_path / 'victim'
  victim.write_text('precious' * 100)
  run = Run(tmp_path / 'run')
  run.workdir.mkdir()
  (run.workdir / name).symlink_to(victim)
  if name != 'goodput.jsonl':
    with pytest.raises(CheckpointError, match='link') as error:
      run(Counter())
    assert '\n' not in str(error.value)
    assert 'free space' not in str(error.value)
  else:
    run(Counter())
  assert victim.read_text() == 'precious' * 100


def test_refuses_a_ledger_that_is_a_pipe(tmp_path):
  os.mkfifo(tmp_path / 'ledger')
  with pytest.raises(OSError, match='No such device|regular'):
    Ledger(tmp_path / 'ledger', 0)
