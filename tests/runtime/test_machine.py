"""Tests of the checks of the installation and the machine."""

from importlib import metadata

import jax
import numpy as np
import pytest

from tiger_jax.errors import UsageError
from tiger_jax.runtime import compile_cache, machine


def findings(folder):
  found = {}
  for finding in machine.check(folder):
    found.setdefault(finding.subject, []).append(finding)
  return found


def test_this_machine_has_no_problem(tmp_path):
  found = findings(tmp_path / 'not/there/yet')
  assert not [x for xs in found.values() for x in xs if x.level == 'problem']
  assert f'jax {jax.__version__}' in found['packages'][0].text
  assert found['devices'][0].text.startswith('8 x cpu')
  assert f'in {tmp_path}' in found['disk'][0].text
  assert found['extra serve'][0].level == 'ok'
  assert not (tmp_path / 'not').exists()


def requirements(monkeypatch, *lines):
  monkeypatch.setattr(metadata, 'requires', lambda name: list(lines))
  return {x.subject: x for x in machine._packages()}


def test_a_package_that_is_too_old_is_a_problem(monkeypatch):
  found = requirements(monkeypatch, 'numpy>=99', 'jax>=0.1', 'flax')
  assert found['packages'].kind is UsageError
  assert found['packages'].text == (
    f'numpy is {np.__version__}, but >=99 is required: pip install -U tiger_jax'
  )


def test_a_missing_package_is_a_problem(monkeypatch):
  found = requirements(monkeypatch, 'no-such-package>=1')
  assert 'no-such-package is not installed' in found['packages'].text


def test_requirements_of_another_python_are_skipped(monkeypatch):
  found = requirements(monkeypatch, 'nothing>=1; python_version < "3"')
  assert found['packages'].level == 'ok'
  assert 'all 0 requirements' in found['packages'].text


def test_a_missing_extra_is_a_note_with_the_command(monkeypatch):
  found = requirements(
    monkeypatch, 'numpy', 'nothing; extra == "text"', 'jax; extra == "serve"'
  )
  assert found['packages'].level == 'ok'
  assert found['extra text'].level == 'note'
  assert "pip install 'tiger_jax[text]'" in found['extra text'].text
  assert found['extra serve'].level == 'ok'


def test_without_an_installation_the_requirements_are_unknown(monkeypatch):
  def requires(name):
    raise metadata.PackageNotFoundError(name)

  monkeypatch.setattr(metadata, 'requires', requires)
  (found,) = machine._packages()
  assert found.level == 'note' and 'is not installed' in found.text


def test_a_device_that_computes_wrong_results_is_a_problem(monkeypatch):
  wrong = jax.devices()[3]

  def put(values, device):
    return jax.numpy.asarray(values + (device == wrong))

  monkeypatch.setattr(jax, 'device_put', put)
  (found,) = machine._devices()
  assert found.kind is UsageError and str(wrong) in found.text


def test_a_device_that_fails_is_a_problem(monkeypatch):
  def local_devices():
    raise RuntimeError('no TPU\nmore lines')

  monkeypatch.setattr(jax, 'local_devices', local_devices)
  (found,) = machine._devices()
  assert found.kind is UsageError and '(no TPU)' in found.text
  assert jax.config.jax_enable_compilation_cache


def test_an_unused_gpu_is_noted(monkeypatch, tmp_path):
  assert len(list(machine._devices())) == 1
  (tmp_path / 'nvidiactl').touch()
  monkeypatch.setattr(machine, '_NVIDIA', tmp_path / 'nvidiactl')
  _, found = machine._devices()
  assert found.level == 'note' and 'tiger_jax[cuda]' in found.text


def test_little_disk_space_is_noted(monkeypatch, tmp_path):
  assert [x.level for x in machine._disk(tmp_path)] == ['ok']
  monkeypatch.setattr(machine, '_LITTLE_SPACE', 2**80)
  assert [x.level for x in machine._disk(tmp_path)] == ['note']


@pytest.mark.parametrize(
  ('make', 'level', 'text'),
  [
    (lambda x: None, 'ok', 'will be created'),
    (lambda x: x.mkdir(mode=0o700), 'ok', '0 programs'),
    (lambda x: x.write_text(''), 'note', 'is not a folder'),
    (lambda x: (x.mkdir(), x.chmod(0o777)), 'note', 'written to by others'),
  ],
)
def test_the_compile_cache(monkeypatch, tmp_path, make, level, text):
  folder = tmp_path / 'tiger_jax'
  make(folder)
  monkeypatch.setattr(compile_cache, '_user_folder', lambda: folder)
  former = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  try:
    found = machine._cache()
  finally:
    jax.config.update('jax_compilation_cache_dir', former)
  assert found.level == level and text in found.text
