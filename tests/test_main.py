"""Tests of the errors and the exit codes of the program."""

import gzip
import json
import logging
from pathlib import Path
import signal
import sys

from absl import flags
from absl.testing import flagsaver
import jax
import pytest

from tiger_jax import main, pipeline
from tiger_jax.config import flags as _flags  # noqa: F401  # Defines the flags.
from tiger_jax.errors import (
  CheckpointError,
  DataError,
  NumbersError,
  Preempted,
  TigerError,
  UsageError,
)
from tiger_jax.runtime import console, processes
from tiger_jax.serving.recommender import Recommender

ROOT = Path(__file__).parents[1]
QUICKSTART = f'--config={ROOT}/configs/quickstart.py'


@pytest.fixture(name='command')
def _command(monkeypatch, capfd, tmp_path):
  """Makes a function that runs the program and returns `(code, out, err)`."""
  monkeypatch.chdir(tmp_path)
  # If there is no earlier error, the run fails at this stage, before training.
  monkeypatch.setattr(pipeline.embedding, 'build', lambda *unused: 1 / 0)

  def run(*arguments):
    monkeypatch.setattr(sys, 'argv', ['main.py', *map(str, arguments)])
    capfd.readouterr()
    code = 0
    with flagsaver.flagsaver():
      try:
        main.main()
      except SystemExit as error:
        code = error.code
    captured = capfd.readouterr()
    return code, captured.out, captured.err

  return run


@pytest.fixture(name='refusal')
def _refusal(command):
  """Makes a function that runs the program and returns its one error line."""

  def run(expected_code, *arguments):
    code, _, err = command(*arguments)
    assert code == expected_code, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith('error: ')
    return lines[0]

  return run


def write(path, lines):
  path.write_bytes(gzip.compress('\n'.join(lines).encode()))


@pytest.fixture(name='raw')
def _raw(tmp_path):
  """A folder with small files in the format of the Amazon data."""
  folder = tmp_path / 'raw'
  folder.mkdir()
  events = [(user, item) for user in 'uvw' for item in 'ABCD']
  write(
    folder / 'reviews_Beauty_5.json.gz',
    [
      json.dumps({'reviewerID': user, 'asin': item, 'unixReviewTime': i})
      for i, (user, item) in enumerate(events)
    ],
  )
  write(
    folder / 'meta_Beauty.json.gz',
    [json.dumps({'asin': x, 'title': f'Item {x}'}) for x in 'ABCD'],
  )
  return folder


@pytest.fixture(name='data_refusal')
def _data_refusal(refusal, raw):
  def run():
    return refusal(
      3,
      QUICKSTART,
      '--workdir=run',
      '--mode=data',
      '--config.dataset.name=amazon2014/Beauty',
      f'--config.dataset.source_dir={raw}',
    )

  return run


def test_each_error_has_its_exit_code():
  assert [
    error.exit_code
    for error in (
      TigerError, UsageError, DataError, CheckpointError, NumbersError,
      Preempted,
    )
  ] == [1, 2, 3, 4, 5, 42]  # fmt: skip


def test_a_valid_data_stage_prints_no_errors(command, raw):
  code, out, err = command(
    QUICKSTART,
    '--workdir=run',
    '--mode=data',
    '--config.dataset.name=amazon2014/Beauty',
    f'--config.dataset.source_dir={raw}',
  )
  assert (code, err) == (0, '')
  assert '3 users, 4 items, 12 interactions' in out
  assert out.startswith('     devices: 8 x cpu\n')
  assert 'Everything is in run' in out


def test_a_failed_data_stage_runs_again(command, data_refusal, raw, tmp_path):
  path = raw / 'meta_Beauty.json.gz'
  content = path.read_bytes()
  path.write_bytes(content[:-20])
  data_refusal()
  assert not (tmp_path / 'run').exists()
  path.write_bytes(content)
  code, out, err = command(
    QUICKSTART,
    '--workdir=run',
    '--mode=data',
    '--config.dataset.name=amazon2014/Beauty',
    f'--config.dataset.source_dir={raw}',
  )
  assert (code, err) == (0, '')
  assert '12 interactions' in out


def test_a_damaged_record_is_a_data_error(command, refusal, tmp_path):
  arguments = (
    QUICKSTART,
    '--workdir=run',
    '--mode=data',
    '--config.dataset.synthetic_users=5',
  )
  assert command(*arguments)[0] == 0
  (tmp_path / 'run' / 'data' / 'stage.json').write_text('{"finger')
  assert 'stage.json is damaged' in refusal(3, *arguments)


@pytest.mark.parametrize(
  'error', [UsageError, DataError, CheckpointError, NumbersError]
)
def test_every_expected_error_is_printed_on_one_line(
  refusal, monkeypatch, error
):
  def fail(*unused):
    logging.getLogger('some.library').warning('noise')
    raise error('two\nlines   and\ttabs')

  monkeypatch.setattr(pipeline.data, 'build', fail)
  line = refusal(error.exit_code, QUICKSTART, '--workdir=run', '--mode=data')
  assert line == 'error: two lines and tabs'


def test_a_stopped_run_prints_no_error(command, monkeypatch):
  def stop(*unused):
    raise Preempted('train: stopped by SIGTERM\nat step 7, saved')

  monkeypatch.setattr(pipeline.data, 'build', stop)
  code, _, err = command(QUICKSTART, '--workdir=run', '--mode=data')
  assert (code, err) == (42, 'train: stopped by SIGTERM at step 7, saved\n')


def test_an_unexpected_error_keeps_its_traceback(command, monkeypatch):
  def fail(*unused):
    raise ZeroDivisionError

  monkeypatch.setattr(pipeline.data, 'build', fail)
  with pytest.raises(ZeroDivisionError):
    command(QUICKSTART, '--workdir=run', '--mode=data')


def test_control_c_prints_one_line_and_exits_with_130(command, monkeypatch):
  def fail(*unused):
    signal.raise_signal(signal.SIGINT)

  monkeypatch.setattr(pipeline.data, 'build', fail)
  code, _, err = command(QUICKSTART, '--workdir=run', '--mode=data')
  assert code == 130
  assert 'run the same command to continue' in err
  assert len(err.splitlines()) == 1


def test_the_workdir_is_named_after_the_config(command, tmp_path):
  code, out, _ = command(
    QUICKSTART, '--mode=data', '--config.dataset.synthetic_users=5'
  )
  assert code == 0
  assert (tmp_path / 'runs' / 'quickstart' / 'data').is_dir()
  assert 'runs/quickstart' in out


def test_the_fixture_resets_the_flags(command, refusal):
  assert command(
    QUICKSTART, '--mode=data', '--config.dataset.synthetic_users=5'
  )[0] == 0  # fmt: skip
  assert 'no --' in refusal(2)
  assert flags.FLAGS['mode'].value == 'all'


OUT_OF_MEMORY = (
  MemoryError('Unable to allocate 2.3 TiB'),
  jax.errors.JaxRuntimeError(
    'RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBuffers: many'
  ),
)


@pytest.fixture(name='failing')
def _failing(monkeypatch):
  """Makes a function that lets the data stage fail and returns the flags."""

  def exit_process(code):
    raise SystemExit(code)

  def fail_with(error, distributed):
    def fail(*unused):
      raise error

    monkeypatch.setattr(pipeline.data, 'build', fail)
    monkeypatch.setattr(processes, 'join', lambda: None)
    monkeypatch.setattr(console.os, '_exit', exit_process)
    flags = [QUICKSTART, '--workdir=run', '--mode=data']
    return [*flags, '--distributed'] if distributed else flags

  return fail_with


@pytest.mark.parametrize('distributed', [False, True])
@pytest.mark.parametrize('error', OUT_OF_MEMORY, ids=['host', 'device'])
def test_out_of_memory_names_the_fields_to_lower(
  refusal, failing, error, distributed
):
  line = refusal(2, *failing(error, distributed))
  assert str(error).splitlines()[0] in line
  assert 'Buffers' not in line
  for name in (
    'train.batch_size', 'evaluation.batch_size', 'evaluation.num_beams',
  ):  # fmt: skip
    assert f'config.{name}' in line
  assert 'process' not in line


def test_out_of_memory_in_recommend_names_the_flag_to_lower(
  refusal, monkeypatch, tmp_path
):
  def fail(*unused):
    raise MemoryError

  monkeypatch.setattr(Recommender, 'from_workdir', fail)
  (tmp_path / 'run').mkdir()
  line = refusal(2, '--mode=recommend', '--workdir=run', '--history=A')
  assert 'lower --k' in line


@pytest.mark.parametrize('distributed', [False, True])
def test_recognizes_another_text_for_out_of_memory(
  refusal, failing, distributed
):
  text = 'INTERNAL: Out of memory while trying to allocate 8 bytes'
  error = jax.errors.JaxRuntimeError(text)
  assert 'out of memory' in refusal(2, *failing(error, distributed))


def test_a_device_error_in_one_of_several_processes_is_a_peer_error(
  refusal, failing
):
  error = jax.errors.JaxRuntimeError('UNAVAILABLE: gone\nmore')
  line = refusal(6, *failing(error, True))
  assert 'another process is gone' in line and 'UNAVAILABLE: gone' in line


@pytest.mark.parametrize('distributed', [False, True])
def test_other_errors_keep_their_traceback(command, failing, distributed):
  error = jax.errors.JaxRuntimeError('INTERNAL: a bug')
  if distributed:
    error = ZeroDivisionError('a bug')
    code, _, err = command(*failing(error, True))
    assert code == 1
    assert 'Traceback' in err and 'a bug' in err
    return
  with pytest.raises(jax.errors.JaxRuntimeError, match='a bug'):
    command(*failing(error, False))


def test_refuses_a_batch_that_devices_cannot_share_evenly(refusal, tmp_path):
  line = refusal(2, QUICKSTART, '--workdir=run', '--config.train.batch_size=12')
  assert '8 devices cannot share evenly: try 8' in line
  assert not (tmp_path / 'run').exists()


def test_stages_before_training_accept_any_number_of_devices(command):
  code, _, err = command(
    QUICKSTART, '--workdir=run', '--config.parallel.fsdp=3', '--mode=data',
    '--config.dataset.synthetic_users=5',
  )  # fmt: skip
  assert code == 0, err


def test_refuses_a_platform_that_jax_does_not_know(refusal, monkeypatch):
  platforms, devices = jax.config.jax_platforms, jax.devices

  def fail():
    if jax.config.jax_platforms:
      raise RuntimeError("Unable to initialize backend 'cdua': x (set JAX_...)")
    return devices()

  monkeypatch.setattr(jax, 'devices', fail)
  jax.config.update('jax_platforms', 'cdua')
  try:
    line = refusal(2, QUICKSTART, '--workdir=run', '--mode=data')
  finally:
    jax.config.update('jax_platforms', platforms)
  assert line.startswith(
    "error: JAX_PLATFORMS is 'cdua', but JAX finds only cpu"
  )


def test_warns_about_fields_that_a_run_does_not_read(command):
  code, _, err = command(
    QUICKSTART, '--workdir=run', '--config.semantic_ids.epochs=3',
    '--config.dataset.synthetic_users=5', '--config.train.batch_size=8000',
  )  # fmt: skip
  assert code == 3
  warning, error = err.splitlines()
  assert warning.startswith('warning: config.semantic_ids.epochs is ignored')
  assert "'rq_kmeans'" in warning
  assert 'fewer than one batch of 8000' in error
