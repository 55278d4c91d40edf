"""Tests of the cache of compiled programs.

Compiled programs are executed, so no other user may write to the cache.
"""

import os
from pathlib import Path
import stat
import sys
import warnings

import jax
import pytest

from tests import small, typed
from tiger_jax.runtime import compile_cache


@pytest.fixture(name='home', autouse=True)
def _home(tmp_path, monkeypatch):
  """Makes a new home folder, and unsets the cache folder of JAX."""
  home = tmp_path / 'home'
  home.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(sys, 'platform', 'linux')
  original = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  with warnings.catch_warnings():
    yield home
  jax.config.update('jax_compilation_cache_dir', original)


def cache_folder():
  """Returns the cache folder that JAX uses, or None."""
  jax.config.update('jax_compilation_cache_dir', None)
  compile_cache.use()
  folder = jax.config.jax_compilation_cache_dir
  return folder and Path(folder)


def test_the_cache_is_a_private_folder_of_the_user(home):
  folder = cache_folder()
  assert folder == home / '.cache/tiger_jax'
  assert stat.S_IMODE(folder.stat().st_mode) == 0o700
  assert cache_folder() == folder


@pytest.mark.parametrize(
  ('platform', 'variables', 'expected'),
  [
    ('darwin', {}, 'home/Library/Caches/tiger_jax'),
    ('linux', {'XDG_CACHE_HOME': 'elsewhere'}, 'elsewhere/tiger_jax'),
  ],
)
def test_the_folder_follows_the_conventions_of_the_platform(
  tmp_path, monkeypatch, platform, variables, expected
):
  monkeypatch.setattr(sys, 'platform', platform)
  for name, value in variables.items():
    monkeypatch.setenv(name, str(tmp_path / value))
  assert cache_folder() == tmp_path / expected


def test_does_not_use_a_relative_cache_folder(monkeypatch, home, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('XDG_CACHE_HOME', 'here')
  assert cache_folder() == home / '.cache/tiger_jax'
  assert not (tmp_path / 'here').exists()


def test_keeps_a_cache_folder_that_the_user_has_set(tmp_path):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'set'))
  compile_cache.use()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'set')


@pytest.mark.parametrize(
  ('make', 'reason'),
  [
    (lambda x: x.symlink_to(x.parent), 'is not a folder'),
    (lambda x: x.symlink_to(x.parent / 'nowhere'), 'is not a folder'),
    (lambda x: x.write_text(''), 'is not a folder'),
    (lambda x: (x.mkdir(), x.chmod(0o720)), 'can be written to by others'),
    (lambda x: (x.mkdir(), x.chmod(0o702)), 'can be written to by others'),
  ],
)
def test_does_not_use_a_folder_that_other_users_can_change(
  home, capsys, make, reason
):
  (home / '.cache').mkdir()
  make(home / '.cache/tiger_jax')
  assert cache_folder() is None
  err = capsys.readouterr().err
  assert reason in err
  assert err.startswith('warning: ') and err.count('\n') == 1


def test_does_not_use_a_folder_of_another_user(home, capsys, monkeypatch):
  cache_folder()
  monkeypatch.setattr(os, 'geteuid', lambda: os.getuid() + 1)
  assert cache_folder() is None
  assert 'belongs to another user' in capsys.readouterr().err


@pytest.mark.parametrize('path', ['/proc/nowhere', '/dev/null', 'relative'])
def test_a_missing_home_is_not_an_error(path, monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', path)
  assert cache_folder() is None
  assert capsys.readouterr().err == ''
  assert not (tmp_path / 'relative').exists()


def test_removes_the_least_recently_used_entries(tmp_path):
  for i in range(4):
    path = tmp_path / f'{i}-cache'
    path.write_bytes(bytes(100))
    os.utime(path, (1000 - i, 1000 - i))
  compile_cache._prune(tmp_path, 250)
  assert sorted(x.name for x in tmp_path.glob('*-cache')) == [
    '0-cache', '1-cache',
  ]  # fmt: skip


def test_replaces_a_truncated_entry_silently(home, tmp_path):
  program = (
    'from tiger_jax.runtime import compile_cache; compile_cache.use(); '
    'import jax; '
    'print(jax.jit(lambda x: x * 2 + 1)(1.0))'
  )
  script = f"unset JAX_COMPILATION_CACHE_DIR; $python -c '{program}'"
  env = {'HOME': str(home)}
  first = typed.shell(script, cwd=tmp_path, env=env)
  assert first == (0, '3.0\n', '')
  entries = sorted((home / '.cache/tiger_jax').glob('*-cache'))
  assert entries
  sizes = {path: path.stat().st_size for path in entries}
  for path in entries:
    os.truncate(path, path.stat().st_size // 2)
  assert typed.shell(script, cwd=tmp_path, env=env) == first
  assert {path: path.stat().st_size for path in entries} == sizes


def test_a_run_stores_no_programs_in_its_workdir(home, tmp_path):
  run = tmp_path / 'run'
  done = typed.shell(
    'unset JAX_COMPILATION_CACHE_DIR; $python -m tiger_jax.main --mode=data '
    f'--config={small.ROOT}/configs/quickstart.py --workdir={run} '
    '--config.dataset.synthetic_users=5',
    cwd=tmp_path,
    env={'HOME': str(home)},
  )
  assert done.code == 0, done.err
  assert (home / '.cache/tiger_jax').is_dir()
  assert {x.name for x in run.iterdir() if x.is_dir()} == {'data'}
