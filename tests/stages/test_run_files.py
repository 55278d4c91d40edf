"""Tests of the checks of the files of a run (--mode=doctor)."""

import dataclasses
import fcntl
import hashlib
import json
import os
from pathlib import Path
import random
import shutil

import jax
import jax.numpy as jnp
import pytest

from tests import small
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.config import config_file
from tiger_jax.errors import CheckpointError, DataError, UsageError
from tiger_jax.pipeline import open_run
from tiger_jax.stages import run_files, training
from tiger_jax.stages.stage import run_stage


@pytest.fixture(name='made', scope='module')
def _made(tmp_path_factory):
  """The data and embedding stages of a run, and a small checkpoint."""
  folder = tmp_path_factory.mktemp('run')
  config = config_file.load_config(
    f'{small.ROOT}/configs/own_data.py',
    {
      'dataset.source_dir': str(small.make(folder / 'shop')),
      'embedding.dim': 8,
    },
  )
  workdir = folder / 'run'
  with open_run(config, workdir, 'embed') as pipeline:
    pipeline.run('embed')
    inputs = {'data': pipeline.data_stage.fingerprint, 'semantic_ids': ''}

    def train(stage):
      with Checkpoints(stage / 'checkpoints', {'seed': 1}) as saved:
        for step in (5, 10):
          state = {'step': jnp.asarray(step), 'params': {'w': jnp.ones(9)}}
          saved.save(step, jax.device_get(state), {})

    made_from = training.made_from(config, inputs)
    run_stage(config, workdir, (), 'train', made_from, train)
  return workdir, config


@pytest.fixture(name='workdir')
def _workdir(made, tmp_path):
  return Path(shutil.copytree(made[0], tmp_path / 'run', symlinks=True))


def levels(workdir, config=None):
  """Maps each subject to the level of its last finding."""
  return {x.subject: x.level for x in run_files.check(workdir, config)}


def problems(workdir, config=None):
  found = list(run_files.check(workdir, config))
  return [x for x in found if x.level == 'problem']


def snapshot(folder):
  return {
    str(path): (path.lstat().st_mtime_ns, path.is_file() and _digest(path))
    for path in folder.rglob('*')
  }


def _digest(path):
  return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_intact_run_has_no_problem_and_is_not_changed(made, workdir):
  before = snapshot(workdir)
  expected = {
    'workdir': 'ok', 'data': 'ok', 'embedding': 'ok', 'semantic_ids': 'note',
    'train': 'ok', 'train checkpoints': 'ok', 'evaluation': 'note',
  }  # fmt: skip
  assert levels(workdir) == expected
  assert levels(workdir, made[1]) == expected
  assert snapshot(workdir) == before
  texts = {x.subject: x.text for x in run_files.check(workdir, None)}
  assert texts['train'].endswith('up to date')
  assert texts['train checkpoints'] == 'intact at step 5, 10'


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut(path):
  path.write_bytes(path.read_bytes()[:-7])


def newer(path):
  path.write_text(json.dumps(json.loads(path.read_text()) | {'format': 99}))


def as_file(path):
  shutil.rmtree(path)
  path.write_text('a file')


def as_link(path):
  path.rename(path.with_name('moved'))
  path.symlink_to('moved')


def newest(workdir, pattern):
  return max(workdir.glob(pattern), key=lambda path: path.stat().st_size)


def test_a_damaged_stage_makes_no_later_stage_stale(workdir):
  flip(workdir / 'data/histories.npz')
  texts = {x.subject: x.text for x in run_files.check(workdir, None)}
  assert 'content differs' in texts['data']
  assert texts['embedding'].endswith('up to date')
  assert texts['train'].endswith('up to date')


CASES = [
  ('data', 'data/histories.npz', flip, DataError, 'content differs'),
  ('data', 'data/histories.npz', cut, DataError, 'bytes instead of'),
  ('data', 'data/histories.npz', os.remove, DataError, 'No such file'),
  ('data', 'data/stage.json', cut, DataError, 'stage.json is damaged'),
  ('data', 'data/stage.json', newer, DataError, 'update tiger_jax'),
  ('data', 'data', as_link, DataError, 'is a link'),
  ('data', 'data', as_file, DataError, 'has no stage.json'),
  ('embedding', 'embedding/embeddings.npy', flip, DataError, 'content differs'),
  ('embedding', 'embedding/stage.json', os.remove, DataError, 'no stage.json'),
  ('train checkpoints', 'train/checkpoints/10/params/d/*', flip,
   CheckpointError, 'step 10 is damaged'),
  ('train checkpoints', 'train/checkpoints/5/manifest.json', os.remove,
   CheckpointError, 'manifest.json is missing'),
  ('train checkpoints', 'train/checkpoints/5/meta.json', cut, CheckpointError,
   'meta.json is not as it was written'),
  ('train checkpoints', 'train/checkpoints/5', as_link, CheckpointError,
   'it is a link'),
]  # fmt: skip


@pytest.mark.parametrize(
  ('subject', 'pattern', 'damage', 'kind', 'text'), CASES
)
def test_damage_is_one_problem(workdir, subject, pattern, damage, kind, text):
  damage(newest(workdir, pattern))
  before = snapshot(workdir)
  (problem,) = problems(workdir)
  assert (problem.subject, problem.kind) == (subject, kind)
  assert text in problem.text
  assert ': ' in problem.text  # What to do.
  assert snapshot(workdir) == before


def test_the_intact_checkpoints_are_listed_beside_the_damaged_one(workdir):
  flip(newest(workdir, 'train/checkpoints/10/params/d/*'))
  found = [
    x
    for x in run_files.check(workdir, None)
    if x.subject[-11:] == 'checkpoints'
  ]
  assert [x.level for x in found] == ['problem', 'ok']
  assert found[1].text == 'intact at step 5'


def test_a_model_without_checkpoints_is_a_problem(workdir):
  for step in (5, 10):
    shutil.rmtree(workdir / f'train/checkpoints/{step}')
  (problem,) = problems(workdir)
  assert problem.kind is CheckpointError and 'no checkpoint' in problem.text


def test_an_interrupted_stage_is_checked_too(workdir):
  (workdir / 'train').rename(workdir / 'train.partial-0123abcd')
  assert levels(workdir)['train.partial-0123abcd'] == 'note'
  assert not problems(workdir)
  flip(newest(workdir, 'train.partial-0123abcd/checkpoints/5/params/d/*'))
  (problem,) = problems(workdir)
  assert problem.subject == 'train.partial-0123abcd checkpoints'


def test_an_interrupted_stage_may_have_no_checkpoint(workdir):
  (workdir / 'train').rename(workdir / 'train.partial-0123abcd')
  for step in (5, 10):
    shutil.rmtree(workdir / f'train.partial-0123abcd/checkpoints/{step}')
  assert not problems(workdir)


def test_the_runs_of_an_experiment_are_named(workdir, tmp_path):
  (tmp_path / 'all/beauty').mkdir(parents=True)
  workdir.rename(tmp_path / 'all/beauty/tiger')
  (tmp_path / 'all/.lock').touch()
  *_, found = run_files.check(tmp_path / 'all', None)
  assert f'--workdir={tmp_path}/all/beauty/tiger' in found.text


def test_a_config_that_this_version_cannot_read_is_not_used(workdir):
  path = workdir / 'config.json'
  values = json.loads(path.read_text())
  values['model']['name'] = 'unheard_of'
  path.write_text(json.dumps(values))
  found = {x.subject: x for x in run_files.check(workdir, None)}
  assert found['data'].text.endswith('the config of the run is not known')


def test_a_stage_set_aside_and_foreign_files_are_no_problem(workdir):
  shutil.copytree(workdir / 'train', workdir / 'train.0123abcd')
  (workdir / 'notes.txt').write_text('mine')
  (workdir / 'folder').mkdir()
  assert not problems(workdir)
  assert levels(workdir)['train.0123abcd'] == 'note'


def test_other_settings_make_later_stages_stale(made, workdir):
  other = dataclasses.replace(
    made[1], embedding=dataclasses.replace(made[1].embedding, dim=16)
  )
  assert levels(workdir, other)['data'] == 'ok'
  found = {x.subject: x for x in run_files.check(workdir, other)}
  assert found['embedding'].level == 'note'
  assert 'stale (settings or earlier stages differ)' in found['embedding'].text


def test_changed_raw_files_are_named(made, tmp_path):
  shop = small.make(tmp_path / 'shop', small.events(small.items(), 40))
  moved = dataclasses.replace(made[1].dataset, source_dir=str(shop))
  config = dataclasses.replace(made[1], dataset=moved)
  found = {x.subject: x for x in run_files.check(made[0], config)}
  assert found['data'].level == 'note' and 'stale' in found['data'].text
  raw = Path(made[1].dataset.source_dir, 'items.csv')
  before = raw.read_text()
  raw.write_text(before.replace('A003', 'B003'))
  found = {x.subject: x for x in run_files.check(made[0], made[1])}
  raw.write_text(before)
  assert 'raw files have changed' in found['data'].text


def test_a_process_that_uses_the_folder_is_noted(workdir):
  with open(workdir / '.lock', 'rb') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    found = next(run_files.check(workdir, None))
    assert found.level == 'note' and 'a process uses' in found.text
  found = next(run_files.check(workdir, None))
  assert found.level == 'ok' and 'not in use' in found.text
  (workdir / '.lock').unlink()
  assert next(run_files.check(workdir, None)).level == 'ok'


def test_folders_that_hold_no_run(made, tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'foreign').mkdir()
  (tmp_path / 'foreign/config.json').write_text('{"mine": 1}')
  (tmp_path / 'file').write_text('text')
  for name, level, text in (
    ('empty', 'note', 'is empty'),
    ('foreign', 'problem', 'is not the folder of a run'),
    ('file', 'problem', 'is not a folder'),
    ('file/below', 'problem', 'does not exist'),
    ('missing', 'problem', 'does not exist'),
    ('x' * 5000, 'problem', 'cannot be read'),
  ):
    (finding,) = run_files.check(tmp_path / name, None)
    assert finding.level == level and text in finding.text
    if level == 'problem':
      assert finding.kind is UsageError
  (finding,) = run_files.check(tmp_path / 'missing', made[1])
  assert finding.level == 'note'


@pytest.mark.parametrize('seed', range(4))
def test_random_damage_never_raises_an_error(workdir, seed):
  rng = random.Random(seed)
  paths = sorted(path for path in workdir.rglob('*') if path.is_file())
  for _ in range(8):
    path = rng.choice(paths)
    content = path.read_bytes() if path.is_file() else b''
    kind = rng.randrange(5)
    if path.is_file() and kind == 0:
      path.unlink()
      path.mkdir()
    elif path.is_file():
      start = rng.randrange(len(content) + 1)
      junk = rng.randbytes(rng.randrange(20))
      text = {1: b'', 2: b'{"a": [1e999, NaN]}', 3: b'[' * 100_000}.get(kind)
      path.write_bytes(content[:start] + junk if text is None else text)
    findings = list(run_files.check(workdir, None))
    assert all(x.text and '\n' not in x.text for x in findings)


def test_raw_files_of_a_config(made, tmp_path):
  config = made[1]
  found = list(run_files.raw_files(config))
  assert [x.level for x in found] == ['ok', 'ok']
  assert 'interactions.csv' in found[0].text

  def with_folder(folder):
    dataset = dataclasses.replace(config.dataset, source_dir=str(folder))
    return dataclasses.replace(config, dataset=dataset)

  (found,) = run_files.raw_files(with_folder(tmp_path / 'missing'))
  assert found.kind is DataError and 'interactions' in found.text
  small.make(tmp_path / 'shop')
  (tmp_path / 'shop/items.csv').write_text('')
  _, found = run_files.raw_files(with_folder(tmp_path / 'shop'))
  assert found.kind is DataError and 'is empty' in found.text
  vectors = dataclasses.replace(
    config.embedding, path='nowhere.npy', ids_path=''
  )
  *_, found = run_files.raw_files(
    dataclasses.replace(config, embedding=vectors)
  )
  assert found.kind is DataError and 'nowhere.npy cannot be read' in found.text
