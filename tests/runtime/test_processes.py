"""Tests of runs with several processes on one machine."""

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
  params = np.load(folder / 'params.npz')
  for name, array in np.load(expected / 'params.npz').items():
    np.testing.assert_allclose(params[name], array, rtol=1e-4, atol=1e-6)
  items, expected_items = (
    (x / 'items.json').read_text() for x in (folder, expected)
  )
  assert items == expected_items


@pytest.fixture(name='single', scope='module')
def _single(tmp_path_factory):
  """Returns the workdir of a run with one process."""
  folder = tmp_path_factory.mktemp('single')
  codes, errors = finish(start(folder, 1))
  assert codes == [0], errors
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('num_processes', [2, 4])
def test_several_processes_train_like_one_process(
  single, tmp_path, num_processes
):
  codes, errors = finish(start(tmp_path, num_processes))
  assert codes == [0] * num_processes, errors
  assert_same_run(tmp_path, single)


def test_a_killed_process_ends_the_others_and_the_run_resumes(single, tmp_path):
  started = start(tmp_path, 2, DIE_AT='8')
  started[1].wait(timeout=240)
  died = time.monotonic()
  codes, errors = finish(started)
  assert time.monotonic() - died < 60
  assert codes[0] != 0
  assert errors[0].strip()
  codes, errors = finish(start(tmp_path, 2))
  assert codes == [0, 0], errors
  assert_same_run(tmp_path, single)


@pytest.mark.slow
def test_all_stages_give_equal_results_with_one_and_two_processes(tmp_path):
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
  (ids, metrics, folder), (ids_2, metrics_2, folder_2) = runs
  assert ids == ids_2
  for split, values in metrics.items():
    assert values == pytest.approx(metrics_2[split], abs=1e-6)
  ledgers = [(x / 'ledger').read_bytes() for x in (folder, folder_2)]
  assert ledgers[0] == ledgers[1]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_processes(single, tmp_path):
  codes, errors = finish(start(tmp_path, 2, STOP_AT='4'))
  assert codes == [42, 42], errors
  # The signal arrives before the call that trains steps 5 and 6. All processes
  # stop after the next call, which trains steps 7 and 8.
  assert len((tmp_path / 'ledger').read_text().splitlines()) == 8
  codes, errors = finish(start(tmp_path, 2))
  assert codes == [0, 0], errors
  assert_same_run(tmp_path, single)


@pytest.mark.slow
def test_one_process_resumes_a_run_of_two_processes(single, tmp_path):
  finish(start(tmp_path, 2, DIE_AT='8'))
  codes, errors = finish(start(tmp_path, 1))
  assert codes == [0], errors
  assert_same_run(tmp_path, single)


def test_a_missing_process_is_a_one_line_error(tmp_path):
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


def test_an_invalid_number_of_processes_is_refused(monkeypatch):
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


def test_the_error_names_a_port_that_is_in_use(monkeypatch):
  with socket.create_server(('127.0.0.1', 0)) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
    monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', address)
    monkeypatch.setenv('JAX_PROCESS_ID', '0')
    with pytest.raises(UsageError, match='cannot listen .*in use'):
      processes.join()


def test_a_local_coordinator_listens_on_the_local_address(monkeypatch):
  monkeypatch.delenv('JAX_COORDINATOR_BIND_ADDRESS', raising=False)
  assert processes._bind_address('127.0.0.1:1234', False) == '127.0.0.1:1234'
  assert processes._bind_address('localhost:1234', False) == '127.0.0.1:1234'
  assert processes._bind_address('10.0.0.1:1234', False) is None
  monkeypatch.setenv('JAX_COORDINATOR_BIND_ADDRESS', '0.0.0.0:1234')
  assert processes._bind_address('127.0.0.1:1234', False) is None


def test_a_single_process_is_the_main_process():
  mesh = sharding.make_mesh()
  assert processes.is_main()
  assert processes.from_main(7, mesh) == 7
  any_process = processes.AnyProcess(mesh)
  flags = [False, True, False]
  assert [any_process(flag) for flag in flags] == flags


def test_processes_with_different_settings_fail(tmp_path):
  program = Path(__file__).with_name('disagreement.py')
  started = start(
    tmp_path, 2, (program, tmp_path), PYTHONPATH=str(program.parents[2])
  )
  (code, other), errors = finish(started, 120)
  # Process 0 failed on purpose, and process 1 did not wait for it forever.
  assert code == 3, errors
  assert other != 0
  one, two = ((tmp_path / x / 'results').read_text() for x in '01')
  agreed, version, shared, folder, config, same, raw = one.splitlines()
  assert agreed == shared == same == 'agreed', errors
  assert version == (
    'UsageError: process 1 differs from process 0 in version: fix it'
  )
  assert (
    f'process 1 differs from process 0 in folder {tmp_path / "0"}' in folder
  )
  assert 'on a file system that all hosts share' in folder
  assert 'process 1 differs from process 0 in config' in config
  assert 'process 1 differs from process 0 in input of stage data' in raw
  assert 'same input files' in raw
  # The messages are equal, except for the folders.
  assert two == one.replace(str(tmp_path / '0'), str(tmp_path / '1'))
  assert not list(tmp_path.rglob('.shared'))


def test_a_single_process_agrees_with_itself(tmp_path):
  processes.require_same({'config': object()}, 'fix it')
  processes.require_shared(tmp_path)
  assert not list(tmp_path.iterdir())
