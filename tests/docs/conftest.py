"""Fixtures that run the code blocks of a page."""

import contextlib
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess

import pytest

from tests import small
from tests.docs import reduced
from tests.docs.blocks import RUN, Block
from tests.docs.python_server import Server
from tests.small import ROOT

_TRAIN = (
  'python -m tiger_jax.main --config=configs/quickstart.py '
  '--workdir=runs/quickstart'
)
_TIMEOUT = 500


class Runner:
  """Runs blocks in a folder. All Python blocks run in one session."""

  def __init__(self, server: Server, folder: Path):
    self._server = server
    self._folder = folder
    self._session: subprocess.Popen[str] | None = None

  def run(self, block: Block) -> None:
    """Runs a block.

    Raises:
      AssertionError: The block failed. The message gives its place and error.
    """
    if RUN[block.language] == 'bash':
      error = self._run_bash(block.text)
    else:
      error = self._run_python(block)
    assert not error, f'{block.place} failed:\n{block.text}{error}'

  def close(self) -> None:
    """Ends the Python session and the HTTP server that a failed block left."""
    if self._session:
      self._session.communicate()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
      os.kill(int((self._folder / 'serve.pid').read_text()), signal.SIGKILL)

  def _run_bash(self, text: str) -> str:
    done = subprocess.run(
      ['bash', '-eu', '-o', 'pipefail', '-c', text],
      cwd=self._folder,
      env=self._server.environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      encoding='utf-8',
      errors='replace',
      timeout=_TIMEOUT,
      check=False,
    )
    if not done.returncode:
      return ''
    return f'exit code {done.returncode}\n{done.stderr[-4000:]}'

  def _run_python(self, block: Block) -> str:
    if not self._session:
      self._session = subprocess.Popen(
        [self._server.python, '--session'],
        cwd=self._folder,
        env=self._server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding='utf-8',
      )
    stdin, stdout = self._session.stdin, self._session.stdout
    assert stdin and stdout
    print(json.dumps([block.place, block.text]), file=stdin, flush=True)
    return json.loads(stdout.readline() or '"the session ended"')


@pytest.fixture(name='server', scope='session')
def _server(tmp_path_factory):
  server = Server(tmp_path_factory.mktemp('docs'))
  yield server
  server.stop()


@pytest.fixture(name='template', scope='session')
def _template(server, tmp_path_factory):
  """Returns a folder with configs, scripts, two shops and a trained run."""
  folder = tmp_path_factory.mktemp('template')
  reduced.write_configs(folder)
  for name in ('examples', 'launch'):
    shutil.copytree(ROOT / name, folder / name)
  small.make(folder / 'my_shop')
  reduced.write_amazon(folder / 'amazon2014_beauty')
  Runner(server, folder).run(Block('the trained run', 'bash', _TRAIN, ''))
  return folder


@pytest.fixture(name='runner')
def _runner(server, template, tmp_path):
  folder = tmp_path / 'page'
  shutil.copytree(template, folder)
  runner = Runner(server, folder)
  yield runner
  runner.close()
