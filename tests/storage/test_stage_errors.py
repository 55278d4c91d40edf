"""Tests of the errors of stages: damage, links and the file system."""

import errno
import json
import os

import pytest

from tests.storage.building import (
  ONE,
  TWO,
  Builder,
  folders,
  refuse_build,
  stage,
)
from tiger_jax.errors import DataError, UsageError
from tiger_jax.storage.artifacts import find_artifact, read_artifact


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
def test_a_damaged_record_raises_a_one_line_error(tmp_path, damage):
  made, _ = stage(tmp_path, ONE, Builder())
  (made.folder / 'stage.json').write_text(damage)
  for call in (
    lambda: read_artifact(tmp_path, 'stage'),
    lambda: stage(tmp_path, ONE, refuse_build),
  ):
    with pytest.raises(DataError) as error:
      call()
    assert '\n' not in str(error.value)
    assert str(made.folder / 'stage.json') in str(error.value)
    assert f'remove {made.folder}' in str(error.value)


def test_refuses_a_record_that_is_not_text(tmp_path):
  made, _ = stage(tmp_path, ONE, Builder())
  (made.folder / 'stage.json').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(DataError, match='damaged'):
    read_artifact(tmp_path, 'stage')


def test_refuses_an_artifact_with_a_flipped_bit(tmp_path):
  def build(folder):
    (folder / 'value.json').write_text('{"a": 1}')

  made, _ = stage(tmp_path, ONE, build)
  (made.folder / 'value.json').write_text('{"a": 3}')
  with pytest.raises(DataError, match=r'value\.json is damaged') as error:
    stage(tmp_path, ONE, refuse_build)
  assert f'remove {made.folder} and run again' in str(error.value)
  # A damaged artifact of another workdir is ignored.
  made_here, new = stage(tmp_path / 'here', ONE, build, elsewhere=[tmp_path])
  assert new and made_here.folder == tmp_path / 'here' / 'stage'
  # A damaged artifact that was set aside is not restored.
  (made.folder / 'value.json').write_text('{"a": 1}')
  stage(tmp_path, TWO, Builder())
  aside = tmp_path / f'stage.{ONE[:8]}'
  (aside / 'value.json').write_text('{"a": 3}')
  with pytest.raises(DataError, match=f'{aside.name}/value.json is damaged'):
    stage(tmp_path, ONE, refuse_build)


def test_refuses_to_replace_a_folder_that_is_not_an_artifact(tmp_path):
  (tmp_path / 'stage').mkdir()
  (tmp_path / 'stage' / 'result').write_text('from somewhere')
  assert read_artifact(tmp_path, 'stage') is None
  with pytest.raises(DataError, match='in the way') as error:
    stage(tmp_path, ONE, Builder())
  assert '\n' not in str(error.value)
  assert (tmp_path / 'stage' / 'result').read_text() == 'from somewhere'
  assert folders(tmp_path) == ['stage']


def test_refuses_a_folder_in_the_way_before_the_build(tmp_path):
  stage(tmp_path, ONE, Builder())
  aside = tmp_path / f'stage.{ONE[:8]}'
  aside.mkdir()
  with pytest.raises(DataError, match=f'{aside.name} is in the way'):
    stage(tmp_path, TWO, refuse_build)
  assert read_artifact(tmp_path, 'stage').fingerprint == ONE


def test_an_invalid_fingerprint_is_not_used_in_a_path(tmp_path):
  """A fingerprint `/../..` would lead to the folder above the workdir."""
  run = tmp_path / 'received'
  (run / 'stage').mkdir(parents=True)
  (run / 'stage.').mkdir()
  (tmp_path / 'final.tex').write_text('precious')
  for wrong in ('/../..', '../../..' + 'a' * 56, 'x' * 64):
    record = {'fingerprint': wrong, 'seconds': 1, 'about': {}}
    (run / 'stage' / 'stage.json').write_text(json.dumps(record))
    for call in (
      lambda: stage(run, ONE, refuse_build),
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
def test_refuses_to_build_through_a_link(tmp_path, name, resumable):
  outside = tmp_path / 'outside'
  outside.mkdir()
  (outside / 'final.tex').write_text('precious')
  run = tmp_path / 'run'
  run.mkdir()
  for target in (outside, tmp_path / 'nothing'):
    (run / name).symlink_to(target)
    with pytest.raises(UsageError, match=f'{name} is a link') as error:
      stage(run, ONE, refuse_build, resumable=resumable)
    assert '\n' not in str(error.value)
    (run / name).unlink()
  assert folders(outside) == ['final.tex']
  assert not (tmp_path / 'nothing').exists()


def test_refuses_a_link_in_a_partial_folder(tmp_path):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  partial = tmp_path / 'run' / f'stage.partial-{ONE[:8]}' / 'checkpoints'
  partial.mkdir(parents=True)
  (partial / 'result').symlink_to(victim)
  with pytest.raises(UsageError, match='result is a link'):
    stage(tmp_path / 'run', ONE, refuse_build, resumable=True)
  assert victim.read_text() == 'precious'


@pytest.mark.parametrize(
  ('number', 'advice'),
  [
    (errno.ENOSPC, 'free space'),
    (errno.EDQUOT, 'free space'),
    (errno.EACCES, 'allow this user to read and write there'),
    (errno.EROFS, 'make the file system writable'),
    (errno.EIO, 'run the same command again'),
  ],
)
def test_a_file_system_error_names_the_stage_and_the_folder(
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
  assert ('free space' in message) == (advice == 'free space')


def test_the_error_of_a_full_disk_names_the_file(tmp_path, monkeypatch):
  def fail(number):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(DataError, match=r'stage stage: .*stage\.json: No space'):
    stage(tmp_path, ONE, Builder())


def test_a_closed_pipe_is_not_reported_as_a_failed_stage(tmp_path):
  def fail(folder):
    raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

  with pytest.raises(BrokenPipeError):
    stage(tmp_path, ONE, fail)
