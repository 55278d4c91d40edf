"""Tests of reads and writes of small files."""

import errno
import os

import pytest

from tiger_jax.storage import files


def test_a_write_replaces_the_whole_file(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(path, {'x': list(range(100))})
  files.write_json(path, {'x': 1})
  assert files.read_json(path) == {'x': 1}
  assert [x.name for x in tmp_path.iterdir()] == ['a.json']


@pytest.mark.parametrize('name', ['a.json', 'a.json.partial'])
def test_a_write_follows_no_link(tmp_path, name):
  victim = tmp_path / 'victim'
  victim.write_text('precious')
  folder = tmp_path / 'folder'
  folder.mkdir()
  (folder / name).symlink_to(victim)
  files.write_json(folder / 'a.json', 1)
  assert victim.read_text() == 'precious'
  assert not (folder / 'a.json').is_symlink()


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  files.write_json(path, 1)

  def fail(number):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(OSError, match='No space'):
    files.write_json(path, 2)
  assert os.listdir(tmp_path) == ['a.json']
  assert files.read_json(path) == 1


def test_a_new_file_has_the_permissions_of_the_user(tmp_path):
  umask = os.umask(0o027)
  try:
    files.write(tmp_path / 'a', b'')
  finally:
    os.umask(umask)
  assert (tmp_path / 'a').stat().st_mode & 0o777 == 0o640


def test_a_read_refuses_pipes_devices_and_folders(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'zero').symlink_to('/dev/zero')
  for name in ('pipe', 'zero'):
    with pytest.raises(ValueError, match='not a regular file'):
      files.read(tmp_path / name)
  with pytest.raises(IsADirectoryError):
    files.read(tmp_path)


def test_a_read_refuses_a_large_file(tmp_path):
  (tmp_path / 'a').write_bytes(b'12345')
  assert files.read(tmp_path / 'a', 5) == b'12345'
  with pytest.raises(ValueError, match='larger than 4 bytes'):
    files.read(tmp_path / 'a', 4)


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, '[1', ''])
def test_text_that_is_not_json_raises_value_error(tmp_path, text):
  (tmp_path / 'a').write_text(text)
  with pytest.raises(ValueError):
    files.read_json(tmp_path / 'a')


def test_sync_ignores_folders_that_cannot_be_synced(tmp_path, monkeypatch):
  def refuse(number):
    raise OSError(errno.EINVAL, 'Invalid argument')

  monkeypatch.setattr(os, 'fsync', refuse)
  files.sync(tmp_path)
  (tmp_path / 'a').write_text('')
  with pytest.raises(OSError, match='Invalid'):
    files.sync(tmp_path / 'a')
