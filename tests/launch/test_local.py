"""Tests the launcher of local processes with small programs."""

import importlib.util
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'local.py'
_spec = importlib.util.spec_from_file_location('launch_local', SCRIPT)
local = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(local)


def python(program, *arguments):
  return [sys.executable, '-c', program, *map(str, arguments)]


WRITE_ENVIRONMENT = """
import json, os, pathlib, sys
variables = {k: v for k, v in os.environ.items() if k.startswith('JAX_')}
path = pathlib.Path(sys.argv[1]) / os.environ['JAX_PROCESS_ID']
path.write_text(json.dumps(variables))
"""


@pytest.mark.parametrize('devices', [None, 3])
def test_each_process_gets_its_jax_variables(tmp_path, devices, monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  assert local.launch(python(WRITE_ENVIRONMENT, tmp_path), 3, devices) == 0
  envs = [json.loads((tmp_path / str(i)).read_text()) for i in range(3)]
  assert [x['JAX_PROCESS_ID'] for x in envs] == ['0', '1', '2']
  assert {x['JAX_NUM_PROCESSES'] for x in envs} == {'3'}
  assert len({x['JAX_COORDINATOR_ADDRESS'] for x in envs}) == 1
  expected = ('cpu', '3') if devices else (None, None)
  for x in envs:
    assert (x.get('JAX_PLATFORMS'), x.get('JAX_NUM_CPU_DEVICES')) == expected


def test_output_has_the_process_index(capfd):
  program = 'import os; print("I am", os.environ["JAX_PROCESS_ID"])'
  assert local.launch(python(program), 3) == 0
  lines = capfd.readouterr().out.splitlines()
  assert sorted(lines) == ['I am 0', '[1] I am 1', '[2] I am 2']


def test_exit_code_is_that_of_the_first_failure():
  program = (
    'import os, sys, time; i = int(os.environ["JAX_PROCESS_ID"]);'
    'time.sleep([1, 0, 2][i]); sys.exit([6, 5, 0][i])'
  )
  assert local.launch(python(program), 3) == 5


def is_alive(pid):
  # A zombie process is not running.
  stat = Path(f'/proc/{pid}/stat')
  try:
    return stat.read_text().rpartition(')')[2].split()[0] != 'Z'
  except (FileNotFoundError, ProcessLookupError):
    return False


def test_processes_that_hang_after_a_failure_are_killed(tmp_path):
  # The hanging process has a child that keeps the output pipe open.
  program = (
    'import os, pathlib, signal, subprocess, sys, time\n'
    'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
    'folder = pathlib.Path(sys.argv[1])\n'
    'if os.environ["JAX_PROCESS_ID"] == "1":\n'
    '  child = subprocess.Popen(["sleep", "40"])\n'
    '  (folder / "new").write_text(f"{os.getpid()} {child.pid}")\n'
    '  (folder / "new").rename(folder / "pids")\n'
    '  time.sleep(40)\n'
    'while not (folder / "pids").exists(): time.sleep(0.02)\n'
    'os.kill(os.getpid(), 9)\n'
  )
  start = time.monotonic()
  code = local.launch(python(program, tmp_path), 2, grace_seconds=0.5)
  assert code == 128 + 9
  assert time.monotonic() - start < 20
  for pid in (tmp_path / 'pids').read_text().split():
    deadline = time.monotonic() + 5
    while is_alive(pid):
      assert time.monotonic() < deadline
      time.sleep(0.02)


def test_other_processes_may_finish_during_the_grace_period(tmp_path):
  program = (
    'import os, pathlib, sys, time\n'
    'if os.environ["JAX_PROCESS_ID"] == "0": sys.exit(6)\n'
    'time.sleep(0.5); pathlib.Path(sys.argv[1], "ended").touch()\n'
  )
  assert local.launch(python(program, tmp_path), 2, grace_seconds=30) == 6
  assert (tmp_path / 'ended').exists()


def test_the_signal_handlers_are_restored_after_a_missing_command():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(FileNotFoundError):
    local.launch(['/nowhere/python'], 2)
  assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
  'number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
)
def test_signals_reach_all_processes(tmp_path, number):
  child = (
    'import os, pathlib, signal, sys, time\n'
    'def stop(number, _):\n'
    '  pathlib.Path(sys.argv[1], f"{number}-{os.getpid()}").touch()\n'
    '  sys.exit(42)\n'
    'signal.signal(signal.SIGTERM, stop)\n'
    'signal.signal(signal.SIGINT, stop)\n'
    'signal.signal(signal.SIGHUP, stop)\n'
    'pathlib.Path(sys.argv[1], f"ready-{os.getpid()}").touch()\n'
    'time.sleep(60)\n'
  )
  parent = (
    'import signal, sys\n'
    # Under nohup, the test run ignores SIGHUP, and its children inherit this.
    'signal.signal(signal.SIGHUP, signal.SIG_DFL)\n'
    f'sys.path.insert(0, {str(SCRIPT.parent)!r})\n'
    'import local\n'
    f'sys.exit(local.launch({python(child, tmp_path)!r}, 2))'
  )
  launcher = subprocess.Popen(python(parent))
  deadline = time.monotonic() + 20
  while len(list(tmp_path.glob('ready-*'))) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.02)
  os.kill(launcher.pid, number)
  assert launcher.wait(20) == 42
  assert len(list(tmp_path.glob(f'{number}-*'))) == 2


def test_flags_are_passed_to_main(monkeypatch):
  launches = []

  def launch(command, num_processes, devices):
    launches.append((command[1:], num_processes, devices))
    return 7

  monkeypatch.setattr(local, 'launch', launch)
  monkeypatch.setattr(
    sys,
    'argv',
    ['local.py', '--processes=4', '--devices=2', '--', '--config=c.py'],
  )
  with pytest.raises(SystemExit) as ended:
    local.main()
  assert ended.value.code == 7
  command = ['-m', 'tiger_jax.main', '--config=c.py', '--distributed']
  assert launches == [(command, 4, 2)]


def test_sighup_is_ignored_under_nohup():
  child = (
    'import os, signal, time; os.kill(os.getppid(), signal.SIGHUP);'
    'time.sleep(0.5)'
  )
  parent = (
    'import signal, sys\n'
    'signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
    f'sys.path.insert(0, {str(SCRIPT.parent)!r})\n'
    'import local\n'
    f'sys.exit(local.launch({python(child)!r}, 2))'
  )
  assert subprocess.run(python(parent), timeout=20).returncode == 0


def test_output_that_is_not_utf8_is_printed(capfd):
  program = 'import sys; sys.stdout.buffer.write(b"\\xff\\nmore\\n")'
  assert local.launch(python(program), 2) == 0
  assert '[1] more' in capfd.readouterr().out


@pytest.mark.parametrize('option', ['--processes=0', '--devices=none'])
def test_invalid_counts_are_refused(monkeypatch, capsys, option):
  monkeypatch.setattr(sys, 'argv', ['local.py', option])
  with pytest.raises(SystemExit) as ended:
    local.main()
  assert ended.value.code == 2
  assert 'is not a positive integer' in capsys.readouterr().err


@pytest.mark.skipif(
  not sys.platform.startswith('linux'), reason='requires prctl of Linux'
)
def test_processes_end_when_the_launcher_is_killed(tmp_path):
  child = (
    'import os, pathlib, signal, sys, time\n'
    'def stop(*unused):\n'
    '  pathlib.Path(sys.argv[1], f"saved-{os.getpid()}").touch()\n'
    '  sys.exit(42)\n'
    'signal.signal(signal.SIGTERM, stop)\n'
    'pathlib.Path(sys.argv[1], f"ready-{os.getpid()}").touch()\n'
    'time.sleep(60)\n'
  )
  parent = (
    f'import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import local\n'
    f'local.launch({python(child, tmp_path)!r}, 2)'
  )
  launcher = subprocess.Popen(python(parent))
  deadline = time.monotonic() + 20
  while len(ready := list(tmp_path.glob('ready-*'))) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.02)
  launcher.kill()
  launcher.wait(20)
  while len(list(tmp_path.glob('saved-*'))) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.02)
  for path in ready:
    while is_alive(path.name.removeprefix('ready-')):
      assert time.monotonic() < deadline
      time.sleep(0.02)


def test_coordinator_listens_on_this_machine_only(tmp_path):
  assert local.launch(python(WRITE_ENVIRONMENT, tmp_path), 1) == 0
  variables = json.loads((tmp_path / '0').read_text())
  address = variables['JAX_COORDINATOR_BIND_ADDRESS']
  assert address == variables['JAX_COORDINATOR_ADDRESS']
  assert address.startswith('127.0.0.1:')
