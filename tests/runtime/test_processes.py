"""Several real processes on this machine make the run that one would make."""

import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.runtime import processes, sharding

PROGRAM = Path(__file__).with_name('distributed_run.py')
DEVICES = 4


PIPELINE = (
  '-m',
  'tiger_jax.main',
  '--config=configs/quickstart.py',
  '--mode=evaluate',
  '--config.dataset.synthetic_users=300',
  '--config.semantic_ids.quantizer=rq_vae',
  '--config.semantic_ids.epochs=3',
  '--config.model.d_model=16',
  '--config.model.head_dim=4',
  '--config.model.mlp_dim=16',
  '--config.train.steps=40',
  '--config.train.optimizer.warmup_steps=10',
  '--config.train.evaluate_every=20',
  '--config.train.evaluate_users=100',
)


def start(folder, num_processes, command=None, **environment):
  folder.mkdir(exist_ok=True)
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  environment |= {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(DEVICES // num_processes),
    # pyrefly: ignore[missing-attribute]
    'JAX_COMPILATION_CACHE_DIR': jax.config.jax_compilation_cache_dir,
  }
  environment |= {
    'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
    'JAX_NUM_PROCESSES': str(num_processes),
  }
  command = command or (PROGRAM, folder, str(num_processes))
  return [
    subprocess.Popen(
      [sys.executable, *command],
      env=os.environ | environment | {'JAX_PROCESS_ID': str(i)},
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
    )
    for i in range(num_processes)
  ]


def finish(started, seconds=240):
  errors = [process.communicate(timeout=seconds)[1] for process in started]
  return [process.returncode for process in started], errors


def losses(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return {x['step']: x['loss'] for x in map(json.loads, lines)}


def assert_same_run(folder, expected):
  assert (folder / 'ledger').read_bytes() == (expected / 'ledger').read_bytes()
  assert losses(folder).keys() == losses(expected).keys()
  for step, loss in losses(folder).items():
    assert loss == pytest.approx(losses(expected)[step], rel=1e-5)
  ours, theirs = (np.load(x / 'params.npz') for x in (folder, expected))
  for name in theirs:
    np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
  found = [(x / 'items.json').read_text() for x in (folder, expected)]
  assert found[0] == found[1]


@pytest.fixture(name='alone', scope='module')
def _alone(tmp_path_factory):
  folder = tmp_path_factory.mktemp('alone')
  codes, errors = finish(start(folder, 1))
  assert codes == [0], errors
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('num_processes', [2, 4])
def test_several_processes_are_as_one(alone, tmp_path, num_processes):
  codes, errors = finish(start(tmp_path, num_processes))
  assert codes == [0] * num_processes, errors
  assert_same_run(tmp_path, alone)


def test_a_dead_peer_ends_the_others_and_all_can_go_on(alone, tmp_path):
  started = start(tmp_path, 2, DIE_AT='8')
  started[1].wait(timeout=240)
  died = time.monotonic()
  codes, errors = finish(started)
  assert time.monotonic() - died < 60
  assert codes[0] != 0
  assert errors[0].strip()
  codes, errors = finish(start(tmp_path, 2))
  assert codes == [0, 0], errors
  assert_same_run(tmp_path, alone)


@pytest.mark.slow
def test_two_processes_make_the_whole_run_of_one(tmp_path):
  runs = []
  for num_processes in (1, 2):
    workdir = tmp_path / str(num_processes)
    command = (*PIPELINE, f'--workdir={workdir}')
    if num_processes > 1:
      command += ('--distributed',)
    codes, errors = finish(start(workdir, num_processes, command), 600)
    assert codes == [0] * num_processes, errors
    ids = (workdir / 'semantic_ids' / 'semantic_ids.npz').read_bytes()
    results = json.loads((workdir / 'results.json').read_text())
    runs.append((ids, results['metrics'], workdir / 'train'))
  (ids, metrics, folder), (others, their_metrics, their_folder) = runs
  assert ids == others
  for split, values in metrics.items():
    assert values == pytest.approx(their_metrics[split], abs=1e-6)
  assert (folder / 'ledger').read_bytes() == (
    their_folder / 'ledger'
  ).read_bytes()


@pytest.mark.slow
def test_all_stop_when_one_is_asked_to(alone, tmp_path):
  codes, errors = finish(start(tmp_path, 2, STOP_AT='4'))
  assert codes == [42, 42], errors
  # The others hear of it a call later.
  assert len((tmp_path / 'ledger').read_text().splitlines()) == 8
  codes, errors = finish(start(tmp_path, 2))
  assert codes == [0, 0], errors
  assert_same_run(tmp_path, alone)


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(alone, tmp_path):
  finish(start(tmp_path, 2, DIE_AT='8'))
  codes, errors = finish(start(tmp_path, 1))
  assert codes == [0], errors
  assert_same_run(tmp_path, alone)


def test_a_peer_that_does_not_come_is_one_line(tmp_path):
  program = (
    'from tiger_jax.runtime import processes\n'
    'processes._CONNECT_SECONDS = 3\n'
    'processes.join()'
  )
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  environment = {
    'JAX_PLATFORMS': 'cpu',
    'JAX_COORDINATOR_ADDRESS': address,
    'JAX_NUM_PROCESSES': '2',
    'JAX_PROCESS_ID': '0',
  }
  ended = subprocess.run(
    [sys.executable, '-c', program],
    env=os.environ | environment,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert ended.returncode == 6
  assert ended.stderr.startswith('error: the other processes did not answer')
  assert ended.stderr.count('\n') == 1


def test_a_number_that_is_none_is_one_line(monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', 'two')
  with pytest.raises(UsageError, match='JAX_NUM_PROCESSES'):
    processes.join()


@pytest.mark.parametrize(
  'address', ['foo', ':1234', 'host:', 'host:port', 'host:0', 'host:65536']
)
def test_an_invalid_coordinator_address_is_refused(monkeypatch, address):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', address)
  with pytest.raises(UsageError, match='host of process 0 and a free port'):
    processes.join()


def test_a_port_in_use_is_named(monkeypatch):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    address = f'127.0.0.1:{taken.getsockname()[1]}'
    monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', address)
    monkeypatch.setenv('JAX_PROCESS_ID', '0')
    with pytest.raises(UsageError, match='cannot listen .*in use'):
      processes.join()


def test_a_coordinator_on_this_machine_listens_there_only(monkeypatch):
  monkeypatch.delenv('JAX_COORDINATOR_BIND_ADDRESS', raising=False)
  assert processes._bind_address('127.0.0.1:1234', False) == '127.0.0.1:1234'
  assert processes._bind_address('localhost:1234', False) == '127.0.0.1:1234'
  assert processes._bind_address('10.0.0.1:1234', False) is None
  monkeypatch.setenv('JAX_COORDINATOR_BIND_ADDRESS', '0.0.0.0:1234')
  assert processes._bind_address('127.0.0.1:1234', False) is None


def test_alone_everybody_is_main():
  mesh = sharding.make_mesh()
  assert processes.is_main()
  assert processes.from_main(7, mesh) == 7
  ask = processes.AnyProcess(mesh)
  assert [ask(x) for x in (False, True, False)] == [False, True, False]


def test_processes_that_disagree_end(tmp_path):
  program = Path(__file__).with_name('disagreement.py')
  started = start(
    tmp_path, 2, (program, tmp_path), PYTHONPATH=str(program.parents[2])
  )
  (code, other), errors = finish(started, 120)
  # The main process failed, and the other one did not wait forever.
  assert code == 3, errors
  assert other != 0
  one, two = ((tmp_path / x / 'told').read_text() for x in '01')
  agreed, version, shared, folder, config, same, raw = one.splitlines()
  assert agreed == shared == same == 'agreed', errors
  assert version == (
    'UsageError: process 1 differs from process 0 in version: mend it'
  )
  assert (
    f'process 1 differs from process 0 in folder {tmp_path / "0"}' in folder
  )
  assert 'on a file system that all hosts share' in folder
  assert 'process 1 differs from process 0 in config' in config
  assert 'process 1 differs from process 0 in input of stage data' in raw
  assert 'same raw files' in raw
  # The messages are equal, except for the folders.
  assert two == one.replace(str(tmp_path / '0'), str(tmp_path / '1'))
  assert not list(tmp_path.rglob('.shared'))


def test_a_single_process_agrees_with_itself(tmp_path):
  processes.require_same({'config': object()}, 'mend it')
  processes.require_shared(tmp_path)
  assert not list(tmp_path.iterdir())
