"""Tests the decisions of two cells of the notebook: install, and own data.

`pip` and Colab are replaced by fakes.
"""

import contextlib
import importlib.metadata
import pathlib
from pathlib import Path
import shutil
import subprocess
import sys
import types
from unittest import mock

import nbformat
import numpy as np
import pytest

from docs.notebook import SOURCE
import tiger_jax


def source_of(text):
  """Returns the source of the only cell that contains a text."""
  cells = nbformat.read(SOURCE, as_version=4).cells
  (source,) = [x.source for x in cells if text in x.source]
  return source


class Session:
  """A session of Colab with a package that `pip` upgrades.

  Attributes:
    commands: The calls of `pip`.
    devices: The files of /dev that exist.
    smi: The exit status of nvidia-smi, or None if there is no such command.
  """

  def __init__(self, folder):
    self.commands, self.devices, self.smi = [], (), None
    self._package = folder / 'upgraded.dist-info'
    self._package.mkdir(parents=True)
    self._package.joinpath('top_level.txt').write_text('upgraded_module')
    self._set_version('1.0')

  def _set_version(self, version):
    text = f'Metadata-Version: 2.1\nName: upgraded\nVersion: {version}\n'
    self._package.joinpath('METADATA').write_text(text)

  def run(self, command, **_):
    if command[0] == 'nvidia-smi':
      return subprocess.CompletedProcess(command, self.smi)
    self.commands.append(command)
    self._set_version('2.0')


@pytest.fixture(name='session')
def _session(tmp_path, monkeypatch):
  session = Session(tmp_path / 'site')
  monkeypatch.chdir(tmp_path)
  Path('tiger_jax').mkdir()
  monkeypatch.syspath_prepend(tmp_path / 'site')
  exists, distributions = Path.exists, importlib.metadata.distributions

  def fake_exists(path):
    is_device = path.is_relative_to('/dev')
    return str(path) in session.devices if is_device else exists(path)

  def fake_distributions(**query):
    is_hidden = query.get('name') == 'tiger_jax' and not session.commands
    return [] if is_hidden else distributions(**query)

  for owner, name, fake in (
    (subprocess, 'run', session.run),
    (shutil, 'which', lambda x: x if session.smi is not None else None),
    (Path, 'exists', fake_exists),
    (importlib.metadata, 'distributions', fake_distributions),
  ):
    monkeypatch.setattr(owner, name, fake)
  return session


@pytest.fixture(name='install')
def _install(session):
  source = source_of('def loaded_versions')
  return lambda variables, address='./tiger_jax': exec(
    source.replace('./tiger_jax', address), variables
  )


@pytest.mark.parametrize(
  'smi, devices, accelerator, extra',
  [
    (None, (), 'CPU', ''),
    (9, (), 'CPU', ''),
    (0, (), 'GPU', '[cuda]'),
    (None, ('/dev/accel0',), 'TPU', '[tpu]'),
    (None, ('/dev/vfio/0',), 'TPU', '[tpu]'),
  ],
)
def test_the_accelerator_determines_what_is_installed(
  session, install, capsys, smi, devices, accelerator, extra
):
  session.smi, session.devices = smi, devices
  install({})
  (command,) = session.commands
  assert '--upgrade' in command and command[-1] == f'./tiger_jax{extra}'
  assert f'Accelerator: {accelerator}.' in capsys.readouterr().out


def test_an_address_is_installed(session, install):
  session.smi = 0
  install({}, 'git+https://example.com/x')
  (command,) = session.commands
  assert command[-1] == 'tiger_jax[cuda] @ git+https://example.com/x'


def test_a_missing_source_is_named(session, install):
  with pytest.raises(SystemExit, match=r'There is no \./wheel: clone'):
    install({}, './wheel')
  assert not session.commands


def test_the_cell_stops_until_the_session_is_restarted(
  session, install, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'upgraded_module', types.ModuleType('x'))
  variables = {}
  for _ in range(2):
    with pytest.raises(SystemExit, match='Restart .* upgraded changed'):
      install(variables)
  install({})  # A restart clears the variables.
  assert len(session.commands) == 1


@pytest.fixture(name='upload')
def _upload(tmp_path, monkeypatch):
  """Returns a function that runs the cell, and the variables it gets."""
  monkeypatch.chdir(tmp_path)
  source = source_of('files.upload()')

  def run(*names):
    colab = types.ModuleType('google.colab')
    colab.files = types.SimpleNamespace(
      upload=lambda: [Path(name).touch() for name in names]
    )
    monkeypatch.setitem(sys.modules, 'google.colab', colab)
    variables = {'contextlib': contextlib, 'np': np, 'pathlib': pathlib}
    exec(source, variables)
    return variables

  return run


def own_config(variables):
  """Runs the cell that trains on the shop, and returns its config."""
  train = mock.Mock()
  package = mock.MagicMock(load_config=tiger_jax.load_config)
  fakes = {'tiger_jax': package, 'train': train, 'show': mock.Mock()}
  exec(source_of("'configs/own_data.py'"), variables | fakes)
  return train.call_args.args[0]


def test_uploaded_files_are_used_with_the_sizes_of_the_config(upload):
  for names in (('items.csv', 'interactions.csv'),
                ('interactions.parquet', 'items.jsonl')):  # fmt: skip
    variables = upload(*names)
    files = {x.name for x in variables['shop_folder'].iterdir()}
    assert files == set(names)
    settings = {'dataset.source_dir': str(variables['shop_folder'])}
    expected = tiger_jax.load_config('configs/own_data.py', settings)
    assert own_config(variables) == expected


def test_the_example_is_used_if_nothing_is_uploaded(upload):
  upload('interactions.csv', 'items.csv')
  variables = upload()
  config = own_config(variables)
  lines = Path(config.dataset.source_dir, 'items.csv').read_text().splitlines()
  assert lines[:2] == ['product_id,title', 'i0,red lamp']
  assert config.semantic_ids.codebook_sizes == (16, 16, 16)


@pytest.mark.parametrize(
  'names, missing',
  [
    (('clicks.csv', 'items.csv'), 'interactions'),
    (('interactions (1).csv', 'items.csv'), 'interactions'),
    (('interactions.csv',), 'items'),
    (('interactions.csv', 'items.xlsx'), 'items'),
  ],
)
def test_an_upload_without_one_of_the_files_is_refused(upload, names, missing):
  ends = ' or '.join(f'{missing}.{end}' for end in ('csv', 'jsonl', 'parquet'))
  with pytest.raises(ValueError, match=f'name this one {ends}'):
    upload(*names)
