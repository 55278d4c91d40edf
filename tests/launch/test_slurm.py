"""Tests the Slurm script with sbatch, and with fake srun and scontrol."""

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import time

import pytest

SCRIPT = Path(__file__).parents[2] / 'launch' / 'slurm.sh'


@pytest.fixture(name='start')
def _start(tmp_path):
  commands = tmp_path / 'bin'
  commands.mkdir()

  def start(srun, **environment):
    for name, text in {
      'srun': srun,
      'scontrol': 'echo "$@" >>"$OUT/scontrol"',
    }.items():
      (commands / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
      (commands / name).chmod(0o755)
    return subprocess.Popen(
      ['bash', SCRIPT],
      env=os.environ
      | {
        'PATH': f'{commands}:{os.environ["PATH"]}',
        'SLURM_JOB_ID': '77',
        'SLURM_NTASKS_PER_NODE': '4',
        'SLURM_GPUS_ON_NODE': '4',
        'OUT': str(tmp_path),
      }
      | environment,
    )

  return start


def wait_for(path):
  deadline = time.monotonic() + 20
  while not path.exists():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_settings_become_arguments_of_srun(start, tmp_path):
  run = start(
    'printf "%s\\n" "$@" >"$OUT/srun"',
    WORKDIR='it\'s "a b"',
    PYTHON='my python',
    FLAGS="--mode=train --config.semantic_ids.codebook_sizes='(8, 8, 8)'",
    SLURM_CPUS_PER_TASK='12',
  )
  assert run.wait(20) == 0
  assert (tmp_path / 'srun').read_text().splitlines() == [
    '--cpus-per-task=12', '--kill-on-bad-exit=0', '--wait=60',
    'my python', '-m', 'tiger_jax.main', '--config=configs/beauty.py',
    '--workdir=it\'s "a b"', '--distributed', '--mode=train',
    '--config.semantic_ids.codebook_sizes=(8, 8, 8)',
  ]  # fmt: skip
  assert not (tmp_path / 'scontrol').exists()


def test_srun_gets_the_default_settings(start, tmp_path):
  assert start('printf "%s\\n" "$@" >"$OUT/srun"').wait(20) == 0
  assert (tmp_path / 'srun').read_text().splitlines() == [
    '--kill-on-bad-exit=0', '--wait=60',
    '.venv/bin/python', '-m', 'tiger_jax.main', '--config=configs/beauty.py',
    '--workdir=runs/slurm', '--distributed',
  ]  # fmt: skip


@pytest.mark.parametrize('code', [1, 2, 5])
def test_a_job_with_a_permanent_error_is_not_requeued(start, tmp_path, code):
  assert start(f'exit {code}').wait(20) == code
  assert not (tmp_path / 'scontrol').exists()


@pytest.mark.parametrize('code', [6, 134, 137, 143])
def test_restarts_after_a_lost_process_are_bounded(
  start, tmp_path, capfd, code
):
  srun = f'exit {code}'
  assert start(srun, RETRIES='3', SLURM_RESTART_COUNT='3').wait(20) == code
  assert not (tmp_path / 'scontrol').exists()
  assert capfd.readouterr().err.startswith(f'error: ended with {code} after 3')
  assert start(srun, RETRIES='3', SLURM_RESTART_COUNT='2').wait(20) == code
  assert (tmp_path / 'scontrol').read_text() == 'requeue 77\n'


@pytest.mark.parametrize(
  'text', ['$(touch ran)', 'a); touch ran; b=(', '`touch ran`', '[3]=x']
)
def test_flags_are_not_executed(start, tmp_path, monkeypatch, text):
  monkeypatch.chdir(tmp_path)
  assert start('printf "%s\\n" "$@" >"$OUT/srun"', FLAGS=text).wait(20) == 0
  assert not (tmp_path / 'ran').exists()
  words = (tmp_path / 'srun').read_text().splitlines()
  assert words[words.index('--distributed') + 1 :] == text.split()


def test_flags_with_an_open_quote_are_refused(start, tmp_path, capfd):
  assert start('touch "$OUT/srun"', FLAGS="--a='b").wait(20) == 2
  error = capfd.readouterr().err
  assert error == "error: FLAGS is --a='b: close its quotes\n"
  assert not (tmp_path / 'srun').exists()


# sbatch calls this filter with the options that it has read. The error ends
# sbatch before it looks for a controller.
FILTER = """
function slurm_cli_setup_defaults(options, is_early)
  return slurm.SUCCESS
end
function slurm_cli_pre_submit(options, offset)
  print(slurm.json_cli_options(options))
  return slurm.ERROR
end
function slurm_cli_post_submit(offset, job, step)
  return slurm.SUCCESS
end
"""


@pytest.fixture(name='sbatch')
def _sbatch(tmp_path):
  if not shutil.which('sbatch'):
    pytest.skip('there is no sbatch: install slurm-client')
  config = tmp_path / 'slurm.conf'
  config.write_text(
    'ClusterName=test\n'
    'SlurmctldHost=localhost\n'
    'AuthType=auth/none\n'
    'CredType=cred/none\n'
    'CliFilterPlugins=cli_filter/lua\n'
  )
  (tmp_path / 'cli_filter.lua').write_text(FILTER)

  def run(script):
    done = subprocess.run(
      ['sbatch', script],
      env=os.environ | {'SLURM_CONF': str(config)},
      capture_output=True,
      text=True,
      timeout=60,
    )
    if 'cannot find cli_filter plugin' in done.stderr:
      pytest.skip('sbatch has no Lua plugin')
    return done

  return run


def test_sbatch_reads_the_options(sbatch):
  done = sbatch(SCRIPT)
  assert done.stdout, done.stderr
  assert json.loads(done.stdout) == {
    'job-name': 'tiger',
    'nodes': '1',
    'gpus-per-node': '8',
    'ntasks-per-node': '8',
    'cpus-per-task': '8',
    'time': '1-00:00:00',
    # The output of a requeued job follows the earlier output.
    'requeue': 'requeue',
    'open-mode': 'a',
    'signal': 'TERM@180',
    'argv': [str(SCRIPT)],
  }


@pytest.mark.parametrize('wrong', ['--signals=TERM@180', '--signal=TERM@soon'])
def test_sbatch_refuses_a_wrong_option(sbatch, tmp_path, wrong):
  script = tmp_path / 'job.sh'
  script.write_text(f'#!/bin/sh\n#SBATCH {wrong}\n')
  done = sbatch(script)
  assert done.returncode
  assert not done.stdout
  assert 'signal' in done.stderr


def test_a_requeued_job_keeps_its_output():
  lines = SCRIPT.read_text().splitlines()
  assert '#SBATCH --requeue' in lines
  assert '#SBATCH --open-mode=append' in lines


def test_a_job_saves_before_the_time_limit_and_is_requeued(start, tmp_path):
  (signal_option,) = [
    line.partition('=')[2]
    for line in SCRIPT.read_text().splitlines()
    if line.startswith('#SBATCH --signal=')
  ]
  name, seconds = signal_option.split('@')
  # With the prefix B:, only the script would get the signal.
  assert name == 'TERM'
  assert int(seconds) >= 120
  # Slurm sends the signal to the tasks. Here, the fake srun is the only task.
  run = start(
    'trap "sleep 0.2; touch $OUT/saved; exit 42" TERM\n'
    'echo $$ >"$OUT/pid.new"; mv "$OUT/pid.new" "$OUT/pid"\n'
    'while :; do sleep 0.05; done'
  )
  wait_for(tmp_path / 'pid')
  os.kill(int((tmp_path / 'pid').read_text()), signal.SIGTERM)
  assert run.wait(20) == 42
  assert (tmp_path / 'saved').exists()
  assert (tmp_path / 'scontrol').read_text() == 'requeue 77\n'


def test_a_cancelled_job_is_not_requeued(start, tmp_path):
  # scancel sends SIGTERM to all processes, including this script.
  run = start(
    'trap "sleep 0.2; touch $OUT/saved; exit 42" TERM\n'
    'echo $$ >"$OUT/pid.new"; mv "$OUT/pid.new" "$OUT/pid"\n'
    'while :; do sleep 0.05; done'
  )
  wait_for(tmp_path / 'pid')
  run.send_signal(signal.SIGTERM)
  os.kill(int((tmp_path / 'pid').read_text()), signal.SIGTERM)
  assert run.wait(20) == -signal.SIGTERM
  wait_for(tmp_path / 'saved')
  assert not (tmp_path / 'scontrol').exists()


def test_a_number_of_tasks_that_differs_from_the_number_of_gpus_is_refused(
  start, tmp_path, capfd
):
  run = start('touch "$OUT/srun"', SLURM_NTASKS_PER_NODE='8')
  assert run.wait(20) == 2
  error = capfd.readouterr().err
  assert error.startswith('error: 8 tasks on a node with 4 GPUs')
  assert error.count('\n') == 1
  assert not (tmp_path / 'srun').exists()
