"""Folders in which the blocks of a page run."""

from pathlib import Path
import shutil
import subprocess
import traceback

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
_TIMEOUT = 120


class Runner:
  """Runs blocks in a folder; those of Python share their names."""

  def __init__(self, server: Server, folder: Path):
    self._server = server
    self._folder = folder
    self._names = {'__name__': '__main__'}

  def run(self, block: Block) -> None:
    """Runs a block.

    Raises:
      AssertionError: It failed. The message has its place and its errors.
    """
    if RUN[block.language] == 'bash':
      done = subprocess.run(
        ['bash', '-eu', '-o', 'pipefail', '-c', block.text],
        cwd=self._folder,
        env=self._server.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding='utf-8',
        errors='replace',
        timeout=_TIMEOUT,
        check=False,
      )
      assert not done.returncode, (
        f'{block.place}: exit code {done.returncode}\n{block.text}'
        f'{done.stderr[-4000:]}'
      )
    else:
      try:
        exec(compile(block.text, block.place, 'exec'), self._names)
      except Exception as error:
        raise AssertionError(
          f'{block.place} failed:\n{block.text}{traceback.format_exc()}'
        ) from error


@pytest.fixture(name='server', scope='session')
def _server(tmp_path_factory):
  server = Server(tmp_path_factory.mktemp('docs'))
  yield server
  server.stop()


@pytest.fixture(name='template', scope='session')
def _template(server, tmp_path_factory):
  """What every page finds: configs, scripts, two shops and a trained run."""
  folder = tmp_path_factory.mktemp('template')
  reduced.write_configs(folder)
  shutil.copytree(ROOT / 'launch', folder / 'launch')
  small.make(folder / 'my_shop')
  reduced.write_amazon(folder / 'amazon2014_beauty')
  Runner(server, folder).run(Block('the trained run', 'bash', _TRAIN, ''))
  return folder


@pytest.fixture(name='runner')
def _runner(server, template, tmp_path, monkeypatch):
  folder = tmp_path / 'page'
  shutil.copytree(template, folder)
  monkeypatch.chdir(folder)
  return Runner(server, folder)
