"""The Slurm script, with stand-ins for srun and scontrol."""

import os
from pathlib import Path
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
      'scontrol': f'echo "$@" > {tmp_path}/scontrol',
    }.items():
      (commands / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
      (commands / name).chmod(0o755)
    return subprocess.Popen(
      ['bash', SCRIPT],
      env=os.environ
      | {
        'PATH': f'{commands}:{os.environ["PATH"]}',
        'SLURM_JOB_ID': '77',
        'OUT': str(tmp_path),
      }
      | environment,
    )

  return start


def test_the_command(start, tmp_path):
  run = start(
    'printf "%s\\n" "$@" > "$OUT/srun"',
    WORKDIR='a b',
    PYTHON='python',
    FLAGS='--config.seed=1 --mode=train',
  )
  assert run.wait(20) == 0
  assert (tmp_path / 'srun').read_text().splitlines() == [
    'python', '-m', 'tiger_jax.main', '--config=configs/beauty.py',
    '--workdir=a b', '--distributed', '--config.seed=1', '--mode=train',
  ]  # fmt: skip
  assert not (tmp_path / 'scontrol').exists()


def test_what_was_preempted_is_queued_again(start, tmp_path):
  assert start('exit 42').wait(20) == 42
  assert (tmp_path / 'scontrol').read_text() == 'requeue 77\n'


def test_an_error_is_not_repeated(start, tmp_path):
  assert start('exit 5').wait(20) == 5
  assert not (tmp_path / 'scontrol').exists()


def test_sigterm_reaches_the_tasks_and_is_waited_for(start, tmp_path):
  run = start(
    'trap "sleep 1; touch $OUT/saved; exit 42" TERM; touch $OUT/ready\n'
    'while :; do sleep 0.1; done'
  )
  deadline = time.monotonic() + 20
  while not (tmp_path / 'ready').exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  run.send_signal(signal.SIGTERM)
  assert run.wait(20) == 42
  assert (tmp_path / 'saved').exists()
  assert (tmp_path / 'scontrol').read_text() == 'requeue 77\n'
