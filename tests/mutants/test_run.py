"""Tests the runner of the mutants on a small repository."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from tests import typed

FOLDER = Path(__file__).parent
CODE = 'import os, time\ndef add(a, b):\n  return a + b\n'
TESTS = """
import tiger_jax

def test_add():
  assert tiger_jax.add(3, 4) == 7
"""
MUTANTS = """
from tests.mutants.mutant import Mutant

CODE = 'tiger_jax/__init__.py'
ADD = 'tests/test_it.py::test_add'
ENDLESS = "open(os.environ['STARTED'], 'x').close() or time.sleep(999)"
MUTANTS = (
  Mutant('a wrong sum', CODE, 'a + b', 'a - b', ADD),
  Mutant('the same sum', CODE, 'a + b', 'b + a', ADD),
  Mutant('an unknown name', CODE, 'a + b', 'a + c', ADD),
  Mutant('the end of the process', CODE, 'a + b', 'os._exit(1)', ADD),
  Mutant('a wrong product', CODE, 'a + b', 'a * b', 'tests'),
  Mutant('no such test', CODE, 'a + b', 'a - b', 'tests/test_it.py::test_no'),
  Mutant('an endless test', CODE, 'a + b', ENDLESS, ADD),
  Mutant('no such text', CODE, 'a + c', 'a - c', ADD),
)
"""


@pytest.fixture(name='repository', scope='module')
def _repository(tmp_path_factory):
  root = tmp_path_factory.mktemp('repository')
  for name, text in {
    'tests/mutants/faults.py': MUTANTS,
    'tests/mutants/mutant.py': (FOLDER / 'mutant.py').read_text(),
    'tests/mutants/run.py': (FOLDER / 'run.py').read_text(),
    'tests/test_it.py': TESTS,
    'tiger_jax/__init__.py': CODE,
  }.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
  subprocess.run(['git', 'init', '-q'], cwd=root, check=True)
  return root


def environment(repository, folder):
  return typed.environment(folder) | {
    'PYTHONPATH': str(repository),
    'TMPDIR': str(folder),
    # The import of the plugins would take longer than these tests.
    'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1',
  }


def run(repository, folder, only):
  """Runs mutants; checks that they leave no files and no changed code."""
  result = typed.python(
    '-m', 'tests.mutants.run', f'--only={only}', cwd=repository,
    env=environment(repository, folder),
  )  # fmt: skip
  assert not list(folder.iterdir())
  assert (repository / 'tiger_jax' / '__init__.py').read_text() == CODE
  return result


def test_mutants_are_reported_as_killed_survived_or_broken(
  repository, tmp_path
):
  result = run(repository, tmp_path, '1,2,3,4,5')
  assert result.code == 1
  assert result.err == ''
  lines = result.out.splitlines()
  assert lines[0].startswith('mutants: 5;')
  outcomes = {int(x.split()[0]): x.split()[1] for x in lines[1:6]}
  assert outcomes == {
    1: 'killed', 2: 'survived', 3: 'broken', 4: 'broken', 5: 'killed',
  }  # fmt: skip
  assert lines[-1] == 'killed 2 of 5'
  # Only the diffs of the mutants that were not killed are printed.
  assert [x for x in lines if x.startswith('+  ')] == [
    '+  return b + a', '+  return a + c', '+  return os._exit(1)',
  ]  # fmt: skip
  assert lines.count('--- tiger_jax/__init__.py') == 3
  assert "NameError: name 'c' is not defined" in result.out


def test_the_exit_code_is_0_if_all_mutants_are_killed(repository, tmp_path):
  result = run(repository, tmp_path, '5')
  assert result.code == 0
  assert result.out.splitlines()[-1] == 'killed 1 of 1'


@pytest.mark.parametrize(
  ('only', 'named'),
  [
    ('9', "'9' is not the number of a mutant: choose from 1 to 8"),
    ('1,x', "'x' is not the number of a mutant"),
    ('6', 'a test of the unchanged code fails: '),
    ('8', 'occurs 0 times in tiger_jax/__init__.py'),
  ],
)
def test_errors_are_one_line(repository, tmp_path, only, named):
  result = run(repository, tmp_path, only)
  assert result.code == 2
  assert named in result.refusal
  assert 'killed' not in result.out


def test_ctrl_c_leaves_no_files_or_processes(repository, tmp_path):
  folder, started = tmp_path / 'tmp', tmp_path / 'started'
  folder.mkdir()
  process = subprocess.Popen(
    [sys.executable, '-m', 'tests.mutants.run', '--only=7'],
    cwd=repository,
    env=environment(repository, folder) | {'STARTED': str(started)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )
  while not started.exists():
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=60)
  assert (process.returncode, err) == (130, b'')
  assert not list(folder.iterdir())
  # No process still runs in the copy of the repository.
  assert not _running_in(folder)
  assert (repository / 'tiger_jax' / '__init__.py').read_text() == CODE


def _running_in(folder):
  links = []
  for link in Path('/proc').glob('[0-9]*/cwd'):
    try:
      links += [link] * os.readlink(link).startswith(str(folder))
    except OSError:
      pass
  return links
