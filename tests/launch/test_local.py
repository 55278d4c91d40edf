"""Several processes on this machine, which here are small programs."""

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


NOTE = """
import json, os, pathlib, sys
mine = {k: v for k, v in os.environ.items() if k.startswith('JAX_')}
path = pathlib.Path(sys.argv[1]) / os.environ['JAX_PROCESS_ID']
path.write_text(json.dumps(mine))
"""


@pytest.mark.parametrize('devices', [None, 3])
def test_each_knows_who_it_is(tmp_path, devices, monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  assert local.launch(python(NOTE, tmp_path), 3, devices) == 0
  found = [json.loads((tmp_path / str(i)).read_text()) for i in range(3)]
  assert [x['JAX_PROCESS_ID'] for x in found] == ['0', '1', '2']
  assert {x['JAX_NUM_PROCESSES'] for x in found} == {'3'}
  assert len({x['JAX_COORDINATOR_ADDRESS'] for x in found}) == 1
  expected = ('cpu', '3') if devices else (None, None)
  for x in found:
    assert (x.get('JAX_PLATFORMS'), x.get('JAX_NUM_CPU_DEVICES')) == expected


def test_the_others_speak_with_their_number(capfd):
  program = 'import os; print("I am", os.environ["JAX_PROCESS_ID"])'
  assert local.launch(python(program), 3) == 0
  lines = capfd.readouterr().out.splitlines()
  assert sorted(lines) == ['I am 0', '[1] I am 1', '[2] I am 2']


def test_the_first_failure_is_told():
  program = (
    'import os, sys, time; i = int(os.environ["JAX_PROCESS_ID"]);'
    'time.sleep([1, 0, 2][i]); sys.exit([6, 5, 0][i])'
  )
  assert local.launch(python(program), 3) == 5


def test_who_hangs_after_a_failure_is_ended():
  program = (
    'import os, time, signal\n'
    'if os.environ["JAX_PROCESS_ID"] == "1": os.kill(os.getpid(), 9)\n'
    'time.sleep(100)'
  )
  start = time.monotonic()
  assert local.launch(python(program), 2, grace_seconds=0.5) == 128 + 9
  assert time.monotonic() - start < 20


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_all(tmp_path, number):
  child = (
    'import os, pathlib, signal, sys, time\n'
    'def stop(*unused):\n'
    '  (pathlib.Path(sys.argv[1]) / f"stopped{os.getpid()}").touch()\n'
    '  sys.exit(42)\n'
    'signal.signal(signal.SIGTERM, stop)\n'
    'signal.signal(signal.SIGINT, stop)\n'
    '(pathlib.Path(sys.argv[1]) / f"ready{os.getpid()}").touch()\n'
    'time.sleep(60)\n'
  )
  parent = (
    'import importlib.util, sys\n'
    f'spec = importlib.util.spec_from_file_location("l", {str(SCRIPT)!r})\n'
    'l = importlib.util.module_from_spec(spec); spec.loader.exec_module(l)\n'
    f'sys.exit(l.launch({python(child, tmp_path)!r}, 2))'
  )
  # A job in the background may be told to ignore Ctrl-C.
  started = subprocess.Popen(
    python(parent),
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  )
  deadline = time.monotonic() + 30
  while len(list(tmp_path.glob('ready*'))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  os.kill(started.pid, number)
  assert started.wait(30) == 42
  assert len(list(tmp_path.glob('stopped*'))) == 2


def test_the_flags_go_to_main(monkeypatch):
  seen = []

  def launch(command, num_processes, devices):
    seen.append((command[1:], num_processes, devices))
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
  assert seen == [(command, 4, 2)]
