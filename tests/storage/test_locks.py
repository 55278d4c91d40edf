"""Tests of the lock of a workdir."""

import errno
import fcntl
import os

import pytest

from tests.storage.building import ONE, Builder, folders, stage
from tiger_jax.errors import UsageError
from tiger_jax.storage.artifacts import locked


def test_a_locked_folder_refuses_a_second_lock(tmp_path):
  with locked(tmp_path):
    with pytest.raises(UsageError, match='another process uses'):
      with locked(tmp_path):
        pass
  with locked(tmp_path):
    pass


def test_a_refused_run_leaves_no_files_or_folders(tmp_path):
  with pytest.raises(UsageError, match='refused'):
    with locked(tmp_path / 'runs' / 'a'):
      raise UsageError('refused')
  assert folders(tmp_path) == []
  (tmp_path / 'empty').mkdir()
  with pytest.raises(KeyboardInterrupt):
    with locked(tmp_path / 'empty'):
      raise KeyboardInterrupt
  assert list((tmp_path / 'empty').iterdir()) == []


def test_a_run_that_fails_after_a_stage_keeps_its_folder_and_lock(tmp_path):
  run = tmp_path / 'run'
  with pytest.raises(UsageError, match='refused'):
    with locked(run):
      stage(run, ONE, Builder())
      raise UsageError('refused')
  assert (run / '.lock').exists()
  # A folder of an earlier command is not removed, even if it has only a lock.
  with locked(tmp_path / 'earlier'):
    pass
  with pytest.raises(UsageError, match='refused'):
    with locked(tmp_path / 'earlier'):
      raise UsageError('refused')
  assert (tmp_path / 'earlier' / '.lock').exists()


def test_a_lock_that_another_process_removed_is_refused(tmp_path, monkeypatch):
  """This process opens the file, another removes it, and `flock` succeeds."""
  lock = fcntl.flock

  def remove_and_lock(file, operation):
    (tmp_path / '.lock').unlink()
    lock(file, operation)

  monkeypatch.setattr(fcntl, 'flock', remove_and_lock)
  with pytest.raises(UsageError, match='another process uses'):
    with locked(tmp_path):
      pass


def test_locking_follows_no_link_and_does_not_truncate_the_file(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  run = tmp_path / 'run'
  with locked(run):
    pass
  (run / '.lock').unlink()
  (run / '.lock').symlink_to(victim)
  stage(run, ONE, Builder())  # Identifies the folder as a run.
  with pytest.raises(UsageError, match=r'\.lock is a link'):
    with locked(run):
      pass
  (run / '.lock').unlink()
  (run / '.lock').write_text('mine')
  with locked(run):
    pass
  assert (run / '.lock').read_text() == 'mine'
  assert victim.read_text() == 'precious'


def test_refuses_a_lock_that_is_a_pipe(tmp_path):
  stage(tmp_path, ONE, Builder())
  os.mkfifo(tmp_path / '.lock')
  with pytest.raises(UsageError, match='not a regular file'):
    with locked(tmp_path):
      pass


def test_does_not_write_to_an_unrelated_folder(tmp_path):
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
