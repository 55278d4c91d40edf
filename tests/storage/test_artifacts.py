import errno
import fcntl
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from tiger_jax.errors import DataError, Preempted, UsageError
from tiger_jax.storage import artifacts as workdir_module
from tiger_jax.storage import files
from tiger_jax.storage.artifacts import (
  await_stage,
  find_artifact,
  locked,
  read_artifact,
  run_stage,
  superseded,
)
from tiger_jax.storage.fingerprints import file_digests, fingerprint

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
  assert read_artifact(tmp_path, 'stage') is None

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
  # The old model can be served until the new one is complete.
  assert read_artifact(tmp_path, 'stage') == first
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
def test_a_stage_that_refuses_its_input_leaves_nothing(tmp_path, resumable):
  def build(folder):
    raise DataError('no such file')

  with pytest.raises(DataError):
    stage(tmp_path, ONE, build, resumable=resumable)
  assert not list(tmp_path.glob('*.partial-*'))


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
  # What was thrown away has not gone into the artifact.
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
    lambda: read_artifact(tmp_path, 'stage'),
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
    read_artifact(tmp_path, 'stage')


def test_what_no_run_made_is_left_alone(tmp_path):
  (tmp_path / 'stage').mkdir()
  (tmp_path / 'stage' / 'result').write_text('from somewhere')
  assert read_artifact(tmp_path, 'stage') is None
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


def test_the_lock_is_not_truncated_or_followed(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  run = tmp_path / 'run'
  with locked(run):
    pass
  (run / '.lock').unlink()
  (run / '.lock').symlink_to(victim)
  stage(run, ONE, Builder())  # A mark, without the lock.
  with pytest.raises(UsageError, match=r'\.lock is a link'):
    with locked(run):
      pass
  (run / '.lock').unlink()
  (run / '.lock').write_text('mine')
  with locked(run):
    pass
  assert (run / '.lock').read_text() == 'mine'
  assert victim.read_text() == 'precious'


def test_a_lock_that_is_a_pipe_is_refused(tmp_path):
  stage(tmp_path, ONE, Builder())
  os.mkfifo(tmp_path / '.lock')
  with pytest.raises(UsageError, match='not a regular file'):
    with locked(tmp_path):
      pass


def test_an_unrelated_folder_is_not_written_to(tmp_path):
  (tmp_path / 'thesis.tex').write_text('mine')
  with pytest.raises(UsageError, match='is not empty'):
    with locked(tmp_path):
      pass
  assert folders(tmp_path) == ['thesis.tex']


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_causes_a_warning(
  tmp_path, monkeypatch, capsys, number
):
  def fail(*unused):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', fail)
  with locked(tmp_path):
    stage(tmp_path, ONE, Builder())
  err = capsys.readouterr().err
  assert str(tmp_path) in err and 'without locks' in err
  assert err.count('\n') == 1


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
  pathlib.Path(folder), 'stage', wanted, build, about={}, resumable=True
)
"""


@pytest.mark.parametrize('point', ['building', 'recording', 'renaming'])
def test_kill_9(tmp_path, point):
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
  # If only the rename was missing, the stage is not built again.
  assert new == (point != 'renaming')
  assert build.calls == new
  assert (made.folder / 'result').read_text() == ('again' if new else 'whole')
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
  made, _ = stage(tmp_path, ONE, refuse, resumable=True)
  assert made.seconds == 50


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


def test_an_invalid_fingerprint_is_not_used_in_a_path(tmp_path):
  """`/../..` would name the folder above the workdir."""
  run = tmp_path / 'received'
  (run / 'stage').mkdir(parents=True)
  (run / 'stage.').mkdir()
  (tmp_path / 'final.tex').write_text('precious')
  for wrong in ('/../..', '../../..' + 'a' * 56, 'x' * 64):
    record = {'fingerprint': wrong, 'seconds': 1, 'about': {}}
    (run / 'stage' / 'stage.json').write_text(json.dumps(record))
    for call in (
      lambda: stage(run, ONE, refuse),
      lambda: read_artifact(run, 'stage'),
      lambda: find_artifact(run, 'stage', ONE),
    ):
      with pytest.raises(DataError, match='not a sha256'):
        call()
  assert (tmp_path / 'final.tex').read_text() == 'precious'
  assert folders(run) == ['stage', 'stage.']


@pytest.mark.parametrize(
  'name', ['stage', f'stage.partial-{ONE[:8]}', f'stage.{ONE[:8]}']
)
@pytest.mark.parametrize('resumable', [False, True])
def test_a_stage_is_not_made_through_a_link(tmp_path, name, resumable):
  outside = tmp_path / 'outside'
  outside.mkdir()
  (outside / 'final.tex').write_text('precious')
  run = tmp_path / 'run'
  run.mkdir()
  for target in (outside, tmp_path / 'nothing'):
    (run / name).symlink_to(target)
    with pytest.raises(UsageError, match=f'{name} is a link') as error:
      stage(run, ONE, refuse, resumable=resumable)
    assert '\n' not in str(error.value)
    (run / name).unlink()
  assert folders(outside) == ['final.tex']
  assert not (tmp_path / 'nothing').exists()


def test_a_link_in_a_partial_folder_is_not_followed(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  partial = tmp_path / 'run' / f'stage.partial-{ONE[:8]}' / 'checkpoints'
  partial.mkdir(parents=True)
  (partial / 'result').symlink_to(victim)
  with pytest.raises(UsageError, match='result is a link'):
    stage(tmp_path / 'run', ONE, refuse, resumable=True)
  assert victim.read_text() == 'precious'


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


def test_the_old_stage_stays_until_the_new_one_is_complete(tmp_path):
  first, _ = stage(tmp_path, ONE, Builder('first'))
  results = tmp_path / 'results.json'
  results.write_text('{}')

  def look(folder):
    assert read_artifact(tmp_path, 'stage') == first
    assert results.exists()

  stage(tmp_path, TWO, look, resumable=True)
  # The results described the first artifact.
  assert not results.exists()
  assert find_artifact(tmp_path, 'stage', ONE).fingerprint == ONE


def test_results_are_removed_when_another_stage_is_restored(tmp_path):
  for wanted in (ONE, TWO):
    stage(tmp_path, wanted, Builder())
  (tmp_path / 'results.json').write_text('{}')
  stage(tmp_path, TWO, refuse)
  assert (tmp_path / 'results.json').exists()
  stage(tmp_path, ONE, refuse)
  assert not (tmp_path / 'results.json').exists()


@pytest.mark.parametrize('resumable', [False, True])
@pytest.mark.parametrize('wanted', [ONE, TWO])
def test_a_kill_between_the_two_renames_is_recovered(
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
  made, _ = stage(tmp_path, wanted, refuse, resumable=resumable)
  expected = 'first' if wanted == ONE else 'second'
  assert (made.folder / 'result').read_text() == expected
  # The other artifact is not lost either.
  made, _ = stage(
    tmp_path, TWO if wanted == ONE else ONE, refuse, resumable=resumable
  )
  assert made.folder == tmp_path / 'stage'


def test_a_taken_name_is_refused_before_a_stage_is_built(tmp_path):
  stage(tmp_path, ONE, Builder())
  aside = tmp_path / f'stage.{ONE[:8]}'
  aside.mkdir()
  with pytest.raises(DataError, match=f'{aside.name} is in the way'):
    stage(tmp_path, TWO, refuse)
  assert read_artifact(tmp_path, 'stage').fingerprint == ONE


def test_leftovers_of_a_stage_that_cannot_resume_are_removed(tmp_path):
  kept = ('stage.partial-mine', f'stage.{TWO[:8]}', 'other.partial-01234567')
  for name in (*kept, 'stage.partial-01234567', f'stage.partial-{ONE[:8]}'):
    (tmp_path / name).mkdir()
  (tmp_path / 'outside').mkdir()
  (tmp_path / 'stage.partial-89abcdef').symlink_to(tmp_path / 'outside')
  stage(tmp_path, ONE, Builder())
  assert folders(tmp_path) == sorted(
    [*kept, 'outside', 'stage', 'stage.partial-89abcdef']
  )


def test_a_resumable_stage_keeps_other_partial_folders(tmp_path):
  (tmp_path / 'stage.partial-01234567').mkdir()
  stage(tmp_path, ONE, Builder(), resumable=True)
  assert superseded(tmp_path, ['stage']) == ['stage.partial-01234567']
  stage(tmp_path, TWO, Builder(), resumable=True)
  assert superseded(tmp_path, ['stage', 'other']) == [
    f'stage.{ONE[:8]}', 'stage.partial-01234567',
  ]  # fmt: skip
  assert superseded(tmp_path, ['other']) == []


def test_a_flipped_bit_in_a_finished_stage_is_refused(tmp_path):
  def build(folder):
    (folder / 'value.json').write_text('{"a": 1}')

  made, _ = stage(tmp_path, ONE, build)
  (made.folder / 'value.json').write_text('{"a": 3}')
  with pytest.raises(DataError, match=r'value\.json is damaged') as error:
    stage(tmp_path, ONE, refuse)
  assert f'remove {made.folder} and run again' in str(error.value)
  # A damaged artifact of another workdir is ignored.
  found, new = stage(tmp_path / 'here', ONE, build, elsewhere=[tmp_path])
  assert new and found.folder == tmp_path / 'here' / 'stage'
  # A damaged artifact that was set aside is not restored.
  (made.folder / 'value.json').write_text('{"a": 1}')
  stage(tmp_path, TWO, Builder())
  aside = tmp_path / f'stage.{ONE[:8]}'
  (aside / 'value.json').write_text('{"a": 3}')
  with pytest.raises(DataError, match=f'{aside.name}/value.json is damaged'):
    stage(tmp_path, ONE, refuse)


@pytest.mark.parametrize(
  ('number', 'advice'),
  [
    (errno.ENOSPC, 'make room'),
    (errno.EDQUOT, 'make room'),
    (errno.EACCES, 'allow this user to read and write there'),
    (errno.EROFS, 'make it writable'),
    (errno.EIO, 'run the same command again'),
  ],
)
def test_an_error_of_the_file_system_names_stage_and_place(
  tmp_path, number, advice
):
  def fail(folder):
    raise OSError(number, os.strerror(number))

  with pytest.raises(DataError) as error:
    stage(tmp_path, ONE, fail)
  message = str(error.value)
  assert message.startswith(f'stage stage: {tmp_path}')
  assert os.strerror(number) in message
  assert advice in message
  assert ('make room' in message) == (advice == 'make room')


def test_a_full_disk_at_the_record_names_the_file(tmp_path, monkeypatch):
  def fail(number):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(DataError, match=r'stage stage: .*stage\.json: No space'):
    stage(tmp_path, ONE, Builder())


def test_a_stage_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
  events = []
  sync, rename = files.sync, Path.rename

  def note_sync(path):
    events.append(f'sync {path.name}')
    sync(path)

  def note_rename(self, target):
    events.append(f'rename {self.name}')
    return rename(self, target)

  def build(folder):
    (folder / 'value.json').write_text('{}')

  monkeypatch.setattr(files, 'sync', note_sync)
  monkeypatch.setattr(Path, 'rename', note_rename)
  stage(tmp_path, ONE, build)
  partial = f'stage.partial-{ONE[:8]}'
  assert events == [
    'sync value.json', f'sync {partial}', f'rename {partial}',
    f'sync {tmp_path.name}',
  ]  # fmt: skip


def test_a_closed_pipe_is_not_an_error_of_the_stage(tmp_path):
  def fail(folder):
    raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

  with pytest.raises(BrokenPipeError):
    stage(tmp_path, ONE, fail)


def test_a_waiting_process_prints_one_message(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(workdir_module, '_QUIET_SECONDS', 0.05)
  monkeypatch.setattr(workdir_module, '_POLL_SECONDS', 0.05)
  asked = []

  def sleep(seconds):
    asked.append(seconds)
    real(seconds)
    if len(asked) == 5:
      stage(tmp_path, ONE, Builder())

  real = time.sleep
  monkeypatch.setattr(time, 'sleep', sleep)
  assert await_stage(tmp_path, 'stage', ONE).fingerprint == ONE
  err = capsys.readouterr().err
  assert err.count('\n') == 1
  assert str(tmp_path / 'stage') in err
  # If the artifact exists, nothing is printed.
  await_stage(tmp_path, 'stage', ONE)
  assert capsys.readouterr().err == ''
