import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from tiger_jax.errors import DataError, Preempted, UsageError
from tiger_jax.storage.files import write_json
from tiger_jax.storage.fingerprints import file_digests, fingerprint
from tiger_jax.workdir import (
  await_stage,
  locked,
  read_artefact,
  run_stage,
)

ONE, TWO = fingerprint('one'), fingerprint('two')


class Builder:
  """Writes its text, and counts how often it was asked to."""

  def __init__(self, text='made'):
    self.text = text
    self.calls = 0

  def __call__(self, folder):
    self.calls += 1
    (folder / 'result').write_text(self.text)


def stage(workdir, wanted, build, **changes):
  return run_stage(
    workdir, 'stage', wanted, build, about={'of': wanted[:3]}, **changes
  )


def folders(workdir):
  return sorted(path.name for path in workdir.iterdir())


def refuse(folder):
  raise AssertionError(f'{folder} is built again')


def test_fingerprints_tell_contents_apart():
  assert fingerprint({'a': 1, 'b': 2}) == fingerprint({'b': 2, 'a': 1})
  different = [
    fingerprint(*parts)
    for parts in ([1], [2], [[1]], [1, 1], ['1'], [{'a': 1}], [1.5], [None])
  ]
  assert len(set(different)) == len(different)
  assert all(len(x) == 64 for x in different)


def test_builds_once(tmp_path):
  build = Builder()
  made, new = stage(tmp_path / 'run', ONE, build)
  assert new
  assert made.folder == tmp_path / 'run' / 'stage'
  assert made.fingerprint == ONE
  assert made.about == {'of': ONE[:3]}
  assert made.seconds >= 0
  assert (made.folder / 'result').read_text() == 'made'
  before = (made.folder / 'stage.json').stat().st_mtime_ns
  again, new = stage(tmp_path / 'run', ONE, refuse)
  assert not new
  assert again == made
  assert (made.folder / 'stage.json').stat().st_mtime_ns == before
  assert build.calls == 1
  assert folders(tmp_path / 'run') == ['stage']


def test_another_fingerprint_sets_the_old_one_aside(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))
  second, new = stage(tmp_path, TWO, Builder('second'))
  assert new
  assert (second.folder / 'result').read_text() == 'second'
  assert folders(tmp_path) == ['stage', f'stage.{ONE[:8]}']
  # And back, building nothing.
  back, new = stage(tmp_path, ONE, refuse)
  assert not new
  assert back == first
  assert (back.folder / 'result').read_text() == 'first'
  assert folders(tmp_path) == ['stage', f'stage.{TWO[:8]}']
  there, new = stage(tmp_path, TWO, refuse)
  assert not new
  assert there == second


def test_what_another_run_has_is_read_there(tmp_path):
  here, there = tmp_path / 'here', tmp_path / 'there'
  made, _ = stage(there, ONE, Builder())
  found, new = stage(here, ONE, refuse, elsewhere=[tmp_path / 'none', there])
  assert not new and found == made and found.folder == there / 'stage'
  assert not here.exists()
  # When the other run has made something else of it, it is made here.
  stage(there, TWO, Builder('other'))
  found, new = stage(here, ONE, Builder(), elsewhere=[there])
  assert new and found.folder == here / 'stage'
  # What is here comes first; what is damaged elsewhere is passed over.
  stage(there, ONE, Builder())
  (tmp_path / 'bad' / 'stage').mkdir(parents=True)
  (tmp_path / 'bad' / 'stage' / 'stage.json').write_text('{')
  found, _ = stage(here, ONE, refuse, elsewhere=[tmp_path / 'bad', there])
  assert found.folder == here / 'stage'
  stage(there, TWO, refuse)
  assert await_stage(here, 'stage', TWO, [tmp_path / 'bad', there]).folder == (
    there / 'stage'
  )
  # What is here already stays, though the other has what is wanted now.
  found, new = stage(here, TWO, refuse, elsewhere=[there])
  assert not new and (found.folder / 'result').read_text() == 'other'
  assert (here / 'stage' / 'result').read_text() == 'made'


@pytest.mark.parametrize('resumable', [False, True])
@pytest.mark.parametrize('error', [DataError, Preempted, KeyboardInterrupt])
def test_a_build_that_raises_leaves_nothing_to_read(tmp_path, resumable, error):
  def fail(folder):
    (folder / 'half').write_text('half')
    raise error('no')

  with pytest.raises(error):
    stage(tmp_path, ONE, fail, resumable=resumable)
  assert not (tmp_path / 'stage').exists()
  assert read_artefact(tmp_path, 'stage') is None

  left = []

  def build(folder):
    left.extend(path.name for path in folder.iterdir())
    (folder / 'half').write_text('whole')

  made, new = stage(tmp_path, ONE, build, resumable=resumable)
  assert new
  assert sorted(left) == (['half', 'seconds'] if resumable else [])
  assert (made.folder / 'half').read_text() == 'whole'
  assert not (made.folder / 'seconds').exists()
  assert folders(tmp_path) == ['stage']


def test_a_failed_change_keeps_what_was_there(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))

  def fail(folder):
    raise DataError('no')

  with pytest.raises(DataError):
    stage(tmp_path, TWO, fail)
  # Nothing answers to the stage's name that was made from something else.
  assert read_artefact(tmp_path, 'stage') is None
  assert stage(tmp_path, ONE, refuse) == (first, False)


def test_interrupted_builds_of_two_configs_do_not_mix(tmp_path):
  def fail(folder):
    (folder / 'half').write_text('one')
    raise DataError('no')

  with pytest.raises(DataError):
    stage(tmp_path, ONE, fail, resumable=True)
  made, _ = stage(tmp_path, TWO, Builder(), resumable=True)
  assert not (made.folder / 'half').exists()


@pytest.mark.parametrize('resumable', [False, True])
def test_seconds_add_up(tmp_path, monkeypatch, resumable):
  now = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])

  def take(seconds, error=None):
    def build(folder):
      del folder
      now[0] += seconds
      if error:
        raise error

    return build

  for seconds in (7, 11):
    with pytest.raises(Preempted):
      stage(tmp_path, ONE, take(seconds, Preempted('x')), resumable=resumable)
    now[0] += 1000  # Nobody works on it.
  made, _ = stage(tmp_path, ONE, take(13), resumable=resumable)
  # What was thrown away has not gone into the artefact.
  assert made.seconds == (31 if resumable else 13)
  assert stage(tmp_path, ONE, refuse)[0].seconds == made.seconds


@pytest.mark.parametrize(
  'damage',
  [
    '',
    '{"fingerprint": "',
    '{}',
    '[1]',
    'null',
    '\x00' * 40,
    '{"fingerprint": 1, "seconds": 2, "about": 3}',
  ],
)
def test_a_damaged_record_is_one_line(tmp_path, damage):
  made, _ = stage(tmp_path, ONE, Builder())
  (made.folder / 'stage.json').write_text(damage)
  for call in (
    lambda: read_artefact(tmp_path, 'stage'),
    lambda: stage(tmp_path, ONE, refuse),
  ):
    with pytest.raises(DataError) as error:
      call()
    assert '\n' not in str(error.value)
    assert str(made.folder / 'stage.json') in str(error.value)
    assert f'remove {made.folder}' in str(error.value)


def test_a_record_that_is_not_text(tmp_path):
  made, _ = stage(tmp_path, ONE, Builder())
  (made.folder / 'stage.json').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(DataError, match='damaged'):
    read_artefact(tmp_path, 'stage')


def test_what_no_run_made_is_left_alone(tmp_path):
  (tmp_path / 'stage').mkdir()
  (tmp_path / 'stage' / 'result').write_text('from somewhere')
  assert read_artefact(tmp_path, 'stage') is None
  with pytest.raises(DataError, match='in the way') as error:
    stage(tmp_path, ONE, Builder())
  assert '\n' not in str(error.value)
  assert (tmp_path / 'stage' / 'result').read_text() == 'from somewhere'
  assert folders(tmp_path) == ['stage']


def test_a_second_process_is_kept_out(tmp_path):
  with locked(tmp_path):
    with pytest.raises(UsageError, match='another run'):
      with locked(tmp_path):
        pass
  with locked(tmp_path):
    pass


KILLED = """
import os, pathlib, signal, sys, time
from tiger_jax import workdir

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
workdir.run_stage(
  pathlib.Path(folder), 'stage', wanted, build, about={}, resumable=True
)
"""


@pytest.mark.parametrize('point', ['building', 'recording', 'renaming'])
def test_kill_9(tmp_path, point):
  root = Path(__file__).parents[1]
  done = subprocess.run(
    [sys.executable, '-c', KILLED, tmp_path / 'run', point, ONE],
    env=os.environ | {'PYTHONPATH': str(root)},
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  assert read_artefact(tmp_path / 'run', 'stage') is None
  partial = tmp_path / 'run' / f'stage.partial-{ONE[:8]}' / 'result'
  assert partial.read_text() == ('half' if point == 'building' else 'whole')
  build = Builder('again')
  made, new = stage(tmp_path / 'run', ONE, build, resumable=True)
  assert new
  assert build.calls == 1
  assert (made.folder / 'result').read_text() == 'again'
  assert sorted(path.name for path in made.folder.iterdir()) == [
    'result',
    'stage.json',
  ]


def test_a_kill_between_recording_and_renaming_loses_no_seconds(
  tmp_path, monkeypatch
):
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
  made, _ = stage(tmp_path, ONE, lambda folder: None, resumable=True)
  assert made.seconds == 50


def test_written_json_is_never_half(tmp_path, monkeypatch):
  path = tmp_path / 'value.json'
  write_json(path, {'a': 1})
  real = Path.write_text

  def full_disk(self, text):
    real(self, text[: len(text) // 2])
    raise OSError('no space left')

  monkeypatch.setattr(Path, 'write_text', full_disk)
  with pytest.raises(OSError, match='no space'):
    write_json(path, {'a': 2, 'b': 3})
  assert json.loads(path.read_text()) == {'a': 1}


def test_file_digests_follow_contents(tmp_path):
  folder = tmp_path / 'raw'
  folder.mkdir()
  assert file_digests('', str(folder), str(tmp_path / 'missing')) == []
  file = folder / 'a'
  file.write_text('one')
  first = file_digests(folder)
  assert first == file_digests(str(file))
  os.utime(file, ns=(0, 0))
  assert first == file_digests(folder)
  file.write_text('two')
  os.utime(file, ns=(0, 0))
  assert file_digests(folder) != first
  (folder / 'below').mkdir()
  (folder / 'below' / 'b').write_text('more')
  assert [name for name, _ in file_digests(folder)] == ['a', 'b']
