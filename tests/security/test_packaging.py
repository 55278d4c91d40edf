"""Tests of the files of a release, and of the installed program."""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

from tests import typed
from tests.small import ROOT

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
_STRAY = (
  'secrets.env', 'tiger_jax/secrets.env', 'configs/notes.txt', '.install.log',
  'my_shop/items.csv', 'amazon2014_beauty/meta.json.gz',
  'results/table1/.env', 'docs/draft.md', 'NOTES.md', 'configs/my_shop.py',
  'tiger_jax/a [1] #b!.py', 'results/mine/run/r.json', 'tests/private.py',
)  # fmt: skip


@pytest.fixture(name='checkout', scope='module')
def _checkout(tmp_path_factory):
  """Returns a checkout with untracked files, and the tracked files' names."""
  listed = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True
  )
  if listed.returncode:
    pytest.skip('needs a git checkout to list the tracked files')
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


@pytest.fixture(name='wheel', scope='module')
def _wheel(checkout):
  return _build(checkout[0], 'wheel')


def test_the_wheel_contains_only_the_package_and_the_configs(checkout, wheel):
  with zipfile.ZipFile(wheel) as archive:
    members = [x for x in archive.namelist() if '.dist-info/' not in x]
  code = {x for x in checkout[1] if x.startswith('tiger_jax/')}
  configs = {f'tiger_jax/{x}' for x in checkout[1] if x.startswith('configs/')}
  assert configs
  assert set(members) == code | configs


@pytest.fixture(name='installed', scope='module')
def _installed(wheel, tmp_path_factory):
  """Returns a function that runs a command in an environment with the wheel.

  The dependencies are those of the environment that runs the tests.
  """
  folder = tmp_path_factory.mktemp('environment')
  venv.create(folder)
  (packages,) = folder.glob('lib/python*/site-packages')
  (packages / 'dependencies.pth').write_text(sysconfig.get_path('purelib'))
  subprocess.run(
    [sys.executable, '-m', 'pip', f'--python={folder}', 'install', '--quiet',
     '--no-deps', '--no-index', '--disable-pip-version-check', wheel],
    check=True,
  )  # fmt: skip
  path = f'{folder}/bin{os.pathsep}{os.environ["PATH"]}'

  def run(command, cwd, pythonpath=''):
    env = {'PATH': path, 'PYTHONPATH': str(pythonpath)}
    return typed.shell(command, cwd=cwd, env=env)

  located = run(
    'python -c "import tiger_jax; print(tiger_jax.__file__)"', folder
  )
  assert Path(located.out.strip()).is_relative_to(packages)
  return run


def test_the_installed_command_runs_the_quickstart_in_an_empty_folder(
  installed, tmp_path
):
  done = installed(
    'tiger-jax --config=configs/quickstart.py --mode=data', tmp_path
  )
  assert (done.code, done.err) == (0, '')
  assert (tmp_path / 'runs' / 'quickstart' / 'data').is_dir()


def test_the_installed_command_prints_its_help(installed, tmp_path):
  done = installed('tiger-jax --help', tmp_path)
  assert (done.code, done.err) == (0, '')
  assert '--workdir' in done.out


@pytest.mark.parametrize(
  ('typed_name', 'nearest'),
  [
    ('configs/qickstart.py', 'configs/quickstart.py'),
    ('configs/paper/tabel1.py', 'configs/paper/table1.py'),
    ('beuty.py', 'configs/beauty.py'),
  ],
)
def test_the_error_suggests_a_config_of_the_wheel(
  installed, tmp_path, typed_name, nearest
):
  done = installed(f'tiger-jax --config={typed_name}', tmp_path)
  assert done.code == 2
  assert done.refusal == (
    f'error: there is no config file {typed_name!r}: did you mean {nearest}?'
  )


def test_a_config_of_the_wheel_can_import_another_config(installed, tmp_path):
  (tmp_path / 'configs').mkdir()  # An unrelated folder of the same name.
  done = installed(
    'tiger-jax --config=configs/paper/seeds.py:cpu --config.stepz=1', tmp_path
  )
  assert done.code == 2
  assert done.refusal.startswith('error: config.stepz is not a field;')


@pytest.mark.parametrize('module', ['absl.flags', 'jax'])
def test_ctrl_c_during_an_import_prints_no_traceback(
  installed, tmp_path, module
):
  typed.interrupt_import(tmp_path, module)
  done = installed(
    'tiger-jax --config=configs/quickstart.py', tmp_path, pythonpath=tmp_path
  )
  assert done == (130, '', 'stopped\n')


def _versions():
  """Returns the supported versions of Python, such as `3.11`."""
  lines = PROJECT['classifiers']
  return [x.rpartition(' ')[2] for x in lines if ' Python :: 3.' in x]


def test_every_supported_version_has_constraints():
  names = {x.name for x in (ROOT / 'constraints').iterdir()}
  files = {f'py{x.replace(".", "")}.txt' for x in _versions()}
  assert names == files | {'beam.txt'}


@pytest.mark.parametrize('version', _versions())
def test_the_constraints_satisfy_the_requirements_of_the_project(version):
  path = ROOT / 'constraints' / f'py{version.replace(".", "")}.txt'
  pinned = {}
  for line in path.read_text().splitlines():
    assert re.fullmatch(r'[\w.-]+==[0-9a-z.]+', line)
    name, _, number = line.partition('==')
    pinned[canonicalize_name(name)] = number
  assert 'tiger-jax' not in pinned
  extras = PROJECT['optional-dependencies']
  lines = PROJECT['dependencies'] + extras['dev']
  lines = lines + extras['docs'] + extras['tensorboard']
  for line in lines:
    if line.startswith('tiger_jax'):
      continue
    requirement = Requirement(line)
    assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize(
  ('version', 'expected'),
  [
    ('3.13', '-c constraints/py313.txt --editable'),
    ('3.99', "echo 'there is no constraints/py399.txt:'"),
  ],
)
def test_make_install_uses_the_constraints_of_the_python_version(
  tmp_path, version, expected
):
  python = tmp_path / 'python'
  python.write_text(f'#!/bin/sh\necho {version}\n')
  python.chmod(0o755)
  done = typed.shell(
    f'make -n -B -C {ROOT} install PYTHON={python}', cwd=tmp_path
  )
  assert done.code == 0, done.err
  commands = ' '.join(done.out.replace('\\\n', '').split())
  assert expected in commands
  assert ('-c constraints' in commands) == (version == '3.13')
