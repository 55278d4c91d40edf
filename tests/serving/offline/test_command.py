"""Tests of --mode=recommend_all, as a user types it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest

from tests import typed
from tiger_jax.serving.recommender import Recommender

NUM_LINES = 4 * 4096 - 100


@pytest.fixture(name='histories', scope='module')
def _histories(tmp_path_factory):
  """A file of histories that makes four parts."""
  path = tmp_path_factory.mktemp('histories') / 'h.jsonl'
  lines = (
    json.dumps(
      {'user': i, 'history': [f'A{(i * j) % 40:03d}' for j in range(1, 4)]}
    )
    for i in range(NUM_LINES)
  )
  path.write_text('\n'.join(lines))
  return path


def flags(workdir, histories, out):
  return (
    '--mode=recommend_all', f'--workdir={workdir}', f'--histories={histories}',
    f'--out={out}', '--k=3',
  )  # fmt: skip


@pytest.fixture(name='whole', scope='module')
def _whole(trained, histories, tmp_path_factory):
  """The folder of an uninterrupted run of one process."""
  cwd = tmp_path_factory.mktemp('whole')
  done = typed.run(*flags(trained, histories, 'out'), cwd=cwd)
  assert done.code == 0, done.err
  lines = done.out.splitlines()
  assert lines[0].startswith(f'{3 * NUM_LINES:,} recommendations for 16,284 ')
  assert lines[-1] == 'Recommendations: out'
  return cwd / 'out'


def parts(folder):
  return {x.name: x.read_bytes() for x in sorted(folder.glob('part-*'))}


def start(cwd, *arguments, **environment):
  return subprocess.Popen(
    [sys.executable, '-m', 'tiger_jax.main', *arguments],
    cwd=cwd,
    env=typed.environment(cwd) | environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_all_users_of_a_run_get_their_items(trained, tmp_path):
  done = typed.run(
    '--mode=recommend_all', f'--workdir={trained}', f'--out={tmp_path}/lists',
    '--k=4', '--exclude_seen', '--format=jsonl', cwd=tmp_path,
  )  # fmt: skip
  assert done.code == 0, done.err
  table = pd.read_json(tmp_path / 'lists/part-00000.jsonl', lines=True)
  shop = Recommender.from_workdir(trained)
  users = shop.dataset.user_ids
  assert table['user'].drop_duplicates().tolist() == list(users)
  assert table['rank'].tolist() == [1, 2, 3, 4] * len(users)
  seen = {user: set() for user in users}
  for row, user in enumerate(users):
    seen[user] = {
      shop.dataset.items.ids[x] for x in shop.dataset.history_of(row)
    }
  assert not any(x.item in seen[x.user] for x in table.itertuples())


def test_a_killed_run_is_continued(trained, histories, whole, tmp_path):
  command = flags(trained, histories, 'out')
  with start(tmp_path, *command) as process:
    while not (tmp_path / 'out/_parts/00000.json').exists():
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.005)
    process.kill()
  assert process.returncode == -signal.SIGKILL
  first = parts(tmp_path / 'out')
  assert 1 <= len(first) < 4 and not (tmp_path / 'out/_SUCCESS').exists()
  done = typed.run(*command, cwd=tmp_path)
  assert done.code == 0, done.err
  assert 'of them now' in done.out
  assert parts(tmp_path / 'out') == parts(whole)
  assert first.items() <= parts(whole).items()


def test_two_processes_write_the_same_files(
  trained, histories, whole, tmp_path
):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  command = (*flags(trained, histories, 'out'), '--distributed')
  started = [
    start(
      tmp_path,
      *command,
      JAX_COORDINATOR_ADDRESS=f'127.0.0.1:{port}',
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(i),
    )
    for i in range(2)
  ]
  errors = [process.communicate(timeout=280)[1] for process in started]
  assert [process.returncode for process in started] == [0, 0], errors
  assert parts(tmp_path / 'out') == parts(whole)
  assert (tmp_path / 'out/_SUCCESS').exists()


def test_a_second_run_waits_for_nobody(trained, histories, tmp_path):
  """Two runs at the same time: one of them is refused."""
  command = flags(trained, histories, 'out')
  with start(tmp_path, *command) as process:
    while not (tmp_path / 'out/_manifest.json').exists():
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.005)
    os.kill(process.pid, signal.SIGSTOP)
    try:
      done = typed.run(*command, cwd=tmp_path)
    finally:
      process.kill()
  assert done.code == 2
  assert done.refusal.startswith('error: another process uses out: wait')
