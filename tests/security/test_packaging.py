"""A release contains only the files of the project."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.small import ROOT

_STRAY = (
  'secrets.env', 'tiger_jax/secrets.env', 'configs/notes.txt', '.install.log',
  'my_shop/items.csv', 'amazon2014_beauty/meta.json.gz',
  'results/table1/.env', 'docs/draft.md', 'NOTES.md', 'configs/my_shop.py',
  'tiger_jax/a [1] #b!.py', 'results/mine/run/r.json', 'tests/private.py',
)  # fmt: skip


@pytest.fixture(name='checkout', scope='module')
def _checkout(tmp_path_factory):
  """A checkout with untracked files, and the names of the tracked ones."""
  listed = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True
  )
  if listed.returncode:
    pytest.skip('needs a git checkout, whose list of files is compared with')
  names = listed.stdout.rstrip('\0').split('\0')
  folder = tmp_path_factory.mktemp('checkout')
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, folder / name)
  for command in (['init', '--quiet'], ['add', '--all', '--force']):
    subprocess.run(['git', *command], cwd=folder, check=True)
  for name in _STRAY:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('not for others')
  return folder, names


def _build(folder, kind):
  subprocess.run(
    [sys.executable, '-m', 'hatchling', 'build', '-t', kind, '-d', 'dist'],
    cwd=folder, check=True, capture_output=True,
  )  # fmt: skip
  (path,) = (folder / 'dist').glob('*.whl' if kind == 'wheel' else '*.gz')
  return path


def test_the_sdist_contains_only_tracked_files(checkout):
  folder, names = checkout
  with tarfile.open(_build(folder, 'sdist')) as archive:
    members = [x.partition('/')[2] for x in archive.getnames()]
  expected = {x for x in names if not x.startswith('.ci/')}
  assert set(members) == expected | {'PKG-INFO'}


def test_the_wheel_contains_only_the_package(checkout):
  folder, names = checkout
  with zipfile.ZipFile(_build(folder, 'wheel')) as archive:
    members = [x for x in archive.namelist() if '.dist-info/' not in x]
  code = {x for x in names if x.startswith('tiger_jax/')}
  assert set(members) == code
