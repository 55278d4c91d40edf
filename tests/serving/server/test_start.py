"""Tests of the start and the end of the program."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests import typed
from tiger_jax.errors import UsageError
from tiger_jax.serving.server import start
from tiger_jax.serving.server.settings import Settings, is_loopback

FLAGS = {
  'host': '127.0.0.1', 'port': 0, 'admin_port': 0, 'token_file': None,
  'admin_token_file': None, 'models': None, 'serve_demo': False,
}  # fmt: skip


def test_addresses_of_this_machine_are_recognized():
  local = ('127.0.0.1', '127.9.9.9', '::1', 'localhost')
  others = ('0.0.0.0', '::', '10.0.0.1', 'shop.example', '', 'localhost.x')
  assert [is_loopback(x) for x in local] == [True] * 4
  assert [is_loopback(x) for x in others] == [False] * 6


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'host': '0.0.0.0'}, 'TIGER_JAX_TOKEN or --token_file'),
    ({'host': '0.0.0.0', 'serve_demo': True, 'token_file': 'good'}, 'demo'),
    ({'token_file': 'none'}, 'No such file'),
    ({'token_file': 'short'}, 'at least 16'),
    ({'token_file': 'spaces'}, 'letters'),
    ({'admin_token_file': 'binary'}, 'not ASCII'),
    ({'models': 'none'}, 'no folder'),
  ],
)
def test_unsafe_flags_are_refused(tmp_path, monkeypatch, flags, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'good').write_text('0123456789abcdef\n')
  (tmp_path / 'short').write_text('0123456789')
  (tmp_path / 'spaces').write_text('0123456789 0123456789')
  (tmp_path / 'binary').write_bytes(b'\xff' * 20)
  monkeypatch.setattr(start, 'serve', lambda *_: pytest.fail('was started'))
  with pytest.raises(UsageError, match=message):
    start.start(tmp_path, FLAGS | flags)


def test_tokens_come_from_the_environment_or_from_files(tmp_path, monkeypatch):
  seen = []
  monkeypatch.setattr(start, 'serve', lambda *args: seen.append(args))
  monkeypatch.setenv('TIGER_JAX_TOKEN', 'a-token-of-16-ch')
  monkeypatch.setenv('TIGER_JAX_ADMIN_TOKEN', 'not used')
  (tmp_path / 'token').write_text('0123456789abcdef\n')
  flags = {
    'admin_token_file': str(tmp_path / 'token'), 'host': '0.0.0.0',
    'models': str(tmp_path),
  }  # fmt: skip
  start.start(tmp_path, FLAGS | flags)
  assert seen == [(
    tmp_path,
    Settings(
      host='0.0.0.0', port=0, admin_port=0, token='a-token-of-16-ch',
      admin_token='0123456789abcdef',
    ),
    tmp_path,
  )]  # fmt: skip


def test_the_defaults_are_those_of_the_flags():
  from tiger_jax.config.flags import TOPICS

  defaults = {x.name: x.default for x in TOPICS['serve']}
  settings = Settings()
  assert defaults['host'] == settings.host
  assert defaults['port'] == settings.port
  assert defaults['admin_port'] == settings.admin_port
  assert defaults['serve_demo'] == settings.demo


def test_a_used_port_is_refused_before_the_model_is_loaded(tmp_path):
  with socket.socket() as used:
    used.bind(('127.0.0.1', 0))
    used.listen()
    done = typed.run(
      '--mode=serve', f'--workdir={tmp_path}',
      f'--port={used.getsockname()[1]}', cwd=tmp_path,
    )  # fmt: skip
  assert done.code == 2
  assert 'cannot be used (Address already in use)' in done.refusal
  assert 'loading' not in done.out


def test_a_folder_without_a_model_is_refused(tmp_path):
  done = typed.run(
    '--mode=serve', f'--workdir={tmp_path}', '--port=0', cwd=tmp_path
  )
  assert done.code == 4
  assert 'no finished stage' in done.refusal


# A server whose search never ends, and whose thread would keep the process.
_STUCK = """
from pathlib import Path
import threading
from types import SimpleNamespace as Fake
from tiger_jax.serving.server import models, serve
from tiger_jax.serving.server.settings import Settings
def search(*unused_args, **unused):
  print('searching', flush=True)
  threading.Event().wait()
threading.Thread(target=threading.Event().wait).start()
models.warm = lambda *unused: None
snapshot = Fake(known=Fake(unknown=lambda ids: []), retriever=Fake(num_beams=9))
shop = Fake(snapshot=snapshot, num_items=1, recommend_batch=search)
serve.load = lambda folder: shop
serve.serve(Path('shop'), Settings(port=0, drain_seconds=2))
"""


def test_a_search_that_never_ends_does_not_keep_the_process(tmp_path):
  program = subprocess.Popen(
    [sys.executable, '-c', _STUCK],
    cwd=tmp_path,
    env=typed.environment(tmp_path),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    for line in program.stdout:
      if match := re.match(r'serving at http://127.0.0.1:(\d+)$', line):
        break
    with socket.create_connection(('127.0.0.1', int(match[1]))) as client:
      client.sendall(
        b'POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15'
        b'\r\nContent-Type: application/json\r\n\r\n{"history": []}'
      )
      assert program.stdout.readline() == 'searching\n'
      program.send_signal(signal.SIGTERM)
      out, err = program.communicate(timeout=60)
  finally:
    program.kill()
  assert program.returncode == 0, err
  assert out.startswith('stopping\n')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_program_serves_a_run_until_a_signal(trained, tmp_path, number):
  program = subprocess.Popen(
    [
      sys.executable, '-m', 'tiger_jax.main', '--mode=serve', '--port=0',
      f'--workdir={trained}',
    ],
    cwd=tmp_path,
    env=typed.environment(tmp_path),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip
  try:
    for line in program.stdout:
      if match := re.match(r'serving at (http://127.0.0.1:\d+)$', line):
        break
    url = f'{match[1]}/v1/model'
    assert b'"num_items":' in urllib.request.urlopen(url, timeout=60).read()
    time.sleep(0.1)
    program.send_signal(number)
    out, err = program.communicate(timeout=60)
  finally:
    program.kill()
  assert program.returncode == 0, err
  assert out == 'stopping\nstopped\n'
  lines = err.splitlines()
  assert len(lines) == 1 and 'GET /v1/model 200' in lines[0], err
  with pytest.raises(OSError):
    urllib.request.urlopen(url, timeout=5)
  assert not os.listdir(tmp_path)
