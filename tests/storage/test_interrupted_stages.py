"""Tests of stages that fail, are interrupted or are killed."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from tests.storage.building import (
  ONE,
  TWO,
  Builder,
  folders,
  refuse_build,
  stage,
)
from tiger_jax.errors import DataError, Preempted
from tiger_jax.storage import files
from tiger_jax.storage.artifacts import read_artifact, superseded


@pytest.mark.parametrize('resumable', [False, True])
@pytest.mark.parametrize('error', [DataError, Preempted, KeyboardInterrupt])
def test_a_failed_build_leaves_no_artifact(tmp_path, resumable, error):
  def fail(folder):
    (folder / 'half').write_text('half')
    raise error('no')

  with pytest.raises(error):
    stage(tmp_path, ONE, fail, resumable=resumable)
  assert not (tmp_path / 'stage').exists()
  assert read_artifact(tmp_path, 'stage') is None

  remaining = []

  def build(folder):
    remaining.extend(path.name for path in folder.iterdir())
    (folder / 'half').write_text('whole')

  made, new = stage(tmp_path, ONE, build, resumable=resumable)
  assert new
  assert sorted(remaining) == (['half', 'seconds'] if resumable else [])
  assert (made.folder / 'half').read_text() == 'whole'
  assert not (made.folder / 'seconds').exists()
  assert folders(tmp_path) == ['stage']


def test_a_failed_build_keeps_the_current_artifact(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))

  def fail(folder):
    raise DataError('no')

  with pytest.raises(DataError):
    stage(tmp_path, TWO, fail)
  # The old model can be served until the new model is complete.
  assert read_artifact(tmp_path, 'stage') == first
  assert stage(tmp_path, ONE, refuse_build) == (first, False)


def test_interrupted_builds_of_two_configs_do_not_mix(tmp_path):
  def fail(folder):
    (folder / 'half').write_text('one')
    raise DataError('no')

  with pytest.raises(DataError):
    stage(tmp_path, ONE, fail, resumable=True)
  made, _ = stage(tmp_path, TWO, Builder(), resumable=True)
  assert not (made.folder / 'half').exists()


@pytest.mark.parametrize('resumable', [False, True])
def test_a_build_that_refuses_its_input_leaves_no_folder(tmp_path, resumable):
  def build(folder):
    raise DataError('no such file')

  with pytest.raises(DataError):
    stage(tmp_path, ONE, build, resumable=resumable)
  assert not list(tmp_path.glob('*.partial-*'))


@pytest.mark.parametrize('resumable', [False, True])
def test_seconds_include_interrupted_calls_that_were_resumed(
  tmp_path, monkeypatch, resumable
):
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])

  def build_for(seconds, error=None):
    def build(folder):
      del folder
      now[0] += seconds
      if error:
        raise error

    return build

  for seconds in (7, 11):
    with pytest.raises(Preempted):
      build = build_for(seconds, Preempted('x'))
      stage(tmp_path, ONE, build, resumable=resumable)
    now[0] += 1000  # Time between two calls does not count.
  made, _ = stage(tmp_path, ONE, build_for(13), resumable=resumable)
  # The work of interrupted calls counts only if it was resumed.
  assert made.seconds == (31 if resumable else 13)
  assert stage(tmp_path, ONE, refuse_build)[0].seconds == made.seconds


KILLED = """
import os, pathlib, signal, sys, time
from tiger_jax.storage import artifacts

def build(folder):
  (folder / 'result').write_text('half')
  if point == 'building':
    os.kill(os.getpid(), signal.SIGKILL)
  (folder / 'result').write_text('whole')

folder, point, wanted = sys.argv[1:]
if point != 'building':
  rename = {'recording': 'replace', 'renaming': 'rename'}[point]
  real = getattr(pathlib.Path, rename)
  def die(self, target):
    if point == 'renaming' or 'stage.json' in str(target):
      os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
  setattr(pathlib.Path, rename, die)
artifacts.run_stage(
  pathlib.Path(folder), 'stage', wanted, build, metadata={}, resumable=True
)
"""


@pytest.mark.parametrize('point', ['building', 'recording', 'renaming'])
def test_a_killed_build_is_repaired(tmp_path, point):
  root = Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, '-c', KILLED, tmp_path / 'run', point, ONE],
    env=os.environ | {'PYTHONPATH': str(root)},
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  assert read_artifact(tmp_path / 'run', 'stage') is None
  partial = tmp_path / 'run' / f'stage.partial-{ONE[:8]}' / 'result'
  assert partial.read_text() == ('half' if point == 'building' else 'whole')
  build = Builder('again')
  made, new = stage(tmp_path / 'run', ONE, build, resumable=True)
  # If only the rename is missing, the stage is not built again.
  assert new == (point != 'renaming')
  assert build.calls == new
  assert (made.folder / 'result').read_text() == ('again' if new else 'whole')
  assert sorted(path.name for path in made.folder.iterdir()) == [
    'result',
    'stage.json',
  ]


def test_a_kill_before_the_rename_loses_no_seconds(tmp_path, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])

  def build(folder):
    del folder
    now[0] += 50

  def die(self, target):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Path, 'rename', die)
    with pytest.raises(KeyboardInterrupt):
      stage(tmp_path, ONE, build, resumable=True)
  made, _ = stage(tmp_path, ONE, refuse_build, resumable=True)
  assert made.seconds == 50


@pytest.mark.parametrize('resumable', [False, True])
@pytest.mark.parametrize('wanted', [ONE, TWO])
def test_a_kill_between_the_two_renames_is_repaired(
  tmp_path, monkeypatch, resumable, wanted
):
  first, _ = stage(tmp_path, ONE, Builder('first'))
  real = Path.rename

  def die(self, target):
    if 'partial' in self.name:
      raise KeyboardInterrupt
    return real(self, target)

  with monkeypatch.context() as patch:
    patch.setattr(Path, 'rename', die)
    with pytest.raises(KeyboardInterrupt):
      stage(tmp_path, TWO, Builder('second'), resumable=resumable)
  assert read_artifact(tmp_path, 'stage') is None
  made, _ = stage(tmp_path, wanted, refuse_build, resumable=resumable)
  expected = 'first' if wanted == ONE else 'second'
  assert (made.folder / 'result').read_text() == expected
  # The other artifact is not lost either.
  made, _ = stage(
    tmp_path, TWO if wanted == ONE else ONE, refuse_build, resumable=resumable
  )
  assert made.folder == tmp_path / 'stage'


@pytest.mark.parametrize(
  'content', ['', 'x', '1.5.2', 'nan', 'inf', '-3', '1e999', '9' * 5000, '\x00']
)
def test_invalid_seconds_count_as_zero(tmp_path, content):
  partial = tmp_path / f'stage.partial-{ONE[:8]}'
  partial.mkdir()
  (partial / 'seconds').write_text(content)
  made, new = stage(tmp_path, ONE, Builder(), resumable=True)
  assert new
  assert made.seconds < 60


def test_a_stage_that_cannot_resume_removes_partial_folders(tmp_path):
  kept = ('stage.partial-mine', f'stage.{TWO[:8]}', 'other.partial-01234567')
  for name in (*kept, 'stage.partial-01234567', f'stage.partial-{ONE[:8]}'):
    (tmp_path / name).mkdir()
  (tmp_path / 'outside').mkdir()
  (tmp_path / 'stage.partial-89abcdef').symlink_to(tmp_path / 'outside')
  stage(tmp_path, ONE, Builder())
  assert folders(tmp_path) == sorted(
    [*kept, 'outside', 'stage', 'stage.partial-89abcdef']
  )


def test_a_resumable_stage_keeps_partial_folders_of_other_configs(tmp_path):
  (tmp_path / 'stage.partial-01234567').mkdir()
  stage(tmp_path, ONE, Builder(), resumable=True)
  assert superseded(tmp_path, ['stage']) == ['stage.partial-01234567']
  stage(tmp_path, TWO, Builder(), resumable=True)
  assert superseded(tmp_path, ['stage', 'other']) == [
    f'stage.{ONE[:8]}', 'stage.partial-01234567',
  ]  # fmt: skip
  assert superseded(tmp_path, ['other']) == []


def test_files_are_on_disk_before_the_rename(tmp_path, monkeypatch):
  events = []
  sync, rename = files.sync, Path.rename

  def record_sync(path):
    events.append(f'sync {path.name}')
    sync(path)

  def record_rename(self, target):
    events.append(f'rename {self.name}')
    return rename(self, target)

  def build(folder):
    (folder / 'value.json').write_text('{}')

  monkeypatch.setattr(files, 'sync', record_sync)
  monkeypatch.setattr(Path, 'rename', record_rename)
  stage(tmp_path, ONE, build)
  partial = f'stage.partial-{ONE[:8]}'
  assert events == [
    'sync value.json', f'sync {partial}', f'rename {partial}',
    f'sync {tmp_path.name}',
  ]  # fmt: skip
