"""What the command line does with mistakes: one line, and an exit code."""

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
  """Runs the program; returns its exit code, its output and its errors."""
  monkeypatch.chdir(tmp_path)
  # A mistake that is not found must not cost a whole training.
  monkeypatch.setattr(pipeline.stages, 'embed', lambda *unused: 1 / 0)

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
  """Runs the program, which must fail in one line, and returns the line."""

  def run(code, *arguments):
    found, _, err = command(*arguments)
    assert found == code, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith('error: ')
    return lines[0]

  return run


def write(path, lines):
  path.write_bytes(gzip.compress('\n'.join(lines).encode()))


@pytest.fixture(name='raw')
def _raw(tmp_path):
  """A folder of raw files in the official shape."""
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


def change(path, function):
  lines = gzip.decompress(path.read_bytes()).decode().splitlines()
  write(path, function(lines))


def test_exit_codes_are_the_documented_ones():
  assert [
    error.exit_code
    for error in (
      TigerError, UsageError, DataError, CheckpointError, NumbersError,
      Preempted,
    )
  ] == [1, 2, 3, 4, 5, 42]  # fmt: skip


@pytest.mark.parametrize(
  ('arguments', 'named'),
  [
    (['--cofnig=x.py'], 'did you mean --config?'),
    ([QUICKSTART, '--config.train.stepz=1'], 'stepz'),
    ([QUICKSTART, '--config.trian.steps=1'], 'trian'),
    ([QUICKSTART, '--config.train.steps=many'], 'many'),
    ([QUICKSTART, '--config.train.steps=1.5'], '1.5'),
    ([QUICKSTART, '--config.train.steps='], 'steps'),
    ([QUICKSTART, '--config.train=3'], 'train'),
    ([QUICKSTART, '--config.train.steps=-1'], 'config.train.steps is -1'),
    ([QUICKSTART, '--config.seed=-1'], 'config.seed is -1'),
    ([QUICKSTART, '--config.dataset.name=synthetik'], "'synthetic'"),
    ([QUICKSTART, '--config.embedding.dim=0'], 'config.embedding.dim is 0'),
    (['--config=missing.py'], 'missing.py'),
    ([f'{QUICKSTART}:nonsense'], 'it has no variants'),
    (['--config=broken.py'], 'broken.py'),
    (['--config=empty.py'], 'get_config'),
    ([], '--config'),
    (['--workdir=run'], '--config=configs/quickstart.py'),
    (['--workdir=run', '--mode=train'], 'no --config'),
    ([QUICKSTART, '--mode=trian'], 'trian'),
    ([QUICKSTART, '--mode=data', 'stray'], "'stray'"),
    ([QUICKSTART, '--workdir=file', '--mode=data'], 'file'),
    ([QUICKSTART, '--workdir=file/run', '--mode=data'], 'file'),
    (['--mode=recommend', '--workdir=file', '--history=A'], 'file'),
    ([QUICKSTART, '--k=many'], 'many'),
    (['--mode=recommend', '--history=A'], 'no --workdir'),
  ],
)
def test_usage(refusal, tmp_path, arguments, named):
  (tmp_path / 'file').write_text('not a folder')
  (tmp_path / 'broken.py').write_text('def get_config(:\n')
  (tmp_path / 'empty.py').write_text('')
  line = refusal(2, '--workdir=new', *arguments) if (
    arguments and '--workdir' not in ''.join(arguments)
    and '--mode=recommend' not in arguments
  ) else refusal(2, *arguments)  # fmt: skip
  assert named in line
  assert (tmp_path / 'file').read_text() == 'not a folder'
  assert not (tmp_path / 'new' / 'data').exists()


def test_the_nearest_field_is_named(refusal):
  line = refusal(2, QUICKSTART, '--config.train.stepz=1')
  assert 'steps' in line


def test_recommend_before_training(refusal, tmp_path):
  (tmp_path / 'run').mkdir()
  line = refusal(4, '--mode=recommend', '--workdir=run', '--history=A')
  assert 'run --mode=train' in line
  assert not any((tmp_path / 'run').iterdir())


def test_recommend_from_a_folder_that_is_not_there(refusal, tmp_path):
  (tmp_path / 'runs' / 'quickstart').mkdir(parents=True)
  ask = ('--mode=recommend', '--history=A')
  line = refusal(2, *ask, '--workdir=runs/quickstrt')
  assert 'there is no folder runs/quickstrt: did you mean runs/quick' in line
  assert 'name that of a finished run' in refusal(2, *ask, '--workdir=other')


def test_a_good_data_stage_is_quiet(command, raw):
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


@pytest.mark.parametrize('name', ['reviews_Beauty_5', 'meta_Beauty'])
def test_a_missing_file(data_refusal, raw, name):
  (raw / f'{name}.json.gz').unlink()
  assert f'{name}.json.gz' in data_refusal()


def test_a_missing_folder(data_refusal, raw):
  raw.rename(raw.with_name('elsewhere'))
  assert str(raw) in data_refusal()


@pytest.mark.parametrize('name', ['reviews_Beauty_5', 'meta_Beauty'])
def test_html_instead_of_gz(data_refusal, raw, name):
  path = raw / f'{name}.json.gz'
  path.write_text('<!DOCTYPE html><html><body>Not found</body></html>')
  line = data_refusal()
  assert str(path) in line
  assert 'web page' in line


@pytest.mark.parametrize('name', ['reviews_Beauty_5', 'meta_Beauty'])
def test_a_truncated_gz(data_refusal, raw, name):
  path = raw / f'{name}.json.gz'
  path.write_bytes(path.read_bytes()[:-20])
  assert str(path) in data_refusal()


@pytest.mark.parametrize('name', ['reviews_Beauty_5', 'meta_Beauty'])
@pytest.mark.parametrize('bad', ['{"asin": ', '12', 'import os', 'x' * 5000])
def test_a_line_that_is_no_record(data_refusal, raw, name, bad):
  path = raw / f'{name}.json.gz'
  change(path, lambda lines: [*lines[:2], bad, *lines[2:]])
  line = data_refusal()
  assert str(path) in line
  assert '3' in line.replace(str(path), '')  # The number of the line.
  assert len(line) < 1000


def test_an_item_without_metadata(data_refusal, raw):
  change(raw / 'meta_Beauty.json.gz', lambda lines: lines[:-1])
  line = data_refusal()
  assert "'D'" in line
  assert 'allow_missing_metadata' in line


def test_a_user_with_too_few_events(data_refusal, raw):
  change(raw / 'reviews_Beauty_5.json.gz', lambda lines: lines[:-2])
  line = data_refusal()
  assert "'w'" in line
  assert 'drop_short_users' in line


def test_what_failed_is_not_read_as_whole(command, data_refusal, raw, tmp_path):
  path = raw / 'meta_Beauty.json.gz'
  whole = path.read_bytes()
  path.write_bytes(whole[:-20])
  data_refusal()
  assert not (tmp_path / 'run' / 'data').exists()
  path.write_bytes(whole)
  code, out, err = command(
    QUICKSTART,
    '--workdir=run',
    '--mode=data',
    '--config.dataset.name=amazon2014/Beauty',
    f'--config.dataset.source_dir={raw}',
  )
  assert (code, err) == (0, '')
  assert '12 interactions' in out


def test_a_damaged_record_of_a_stage(command, refusal, tmp_path):
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
  'error', [UsageError, DataError, CheckpointError, NumbersError, Preempted]
)
def test_every_expected_error_is_one_line(refusal, monkeypatch, error):
  def fail(*unused):
    logging.getLogger('some.library').warning('noise')
    raise error('two\nlines   and\ttabs')

  monkeypatch.setattr(pipeline.stages, 'make_dataset', fail)
  line = refusal(error.exit_code, QUICKSTART, '--workdir=run', '--mode=data')
  assert line == 'error: two lines and tabs'


def test_an_unexpected_error_keeps_its_traceback(command, monkeypatch):
  def fail(*unused):
    raise ZeroDivisionError

  monkeypatch.setattr(pipeline.stages, 'make_dataset', fail)
  with pytest.raises(ZeroDivisionError):
    command(QUICKSTART, '--workdir=run', '--mode=data')


def test_control_c(command, monkeypatch):
  def fail(*unused):
    signal.raise_signal(signal.SIGINT)

  monkeypatch.setattr(pipeline.stages, 'make_dataset', fail)
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


def test_help(command):
  code, out, err = command('--help')
  assert code == 0
  assert '--mode' in out
  assert 'recommend' in out
  assert err == ''


def test_nothing_of_a_call_is_left_to_the_next(command, refusal):
  """The fixture must not carry flags over, or this file proves little."""
  assert command(
    QUICKSTART, '--mode=data', '--config.dataset.synthetic_users=5'
  )[0] == 0  # fmt: skip
  assert 'no --' in refusal(2)
  assert flags.FLAGS['mode'].value == 'all'


@pytest.mark.parametrize(
  ('body', 'expected'),
  [
    ('assert False', 'AssertionError'),
    ('return undefined_name', 'undefined_name'),
    ('raise ValueError("first\\nsecond")', 'second'),
  ],
)
def test_a_config_that_raises(refusal, tmp_path, body, expected):
  path = tmp_path / 'mine.py'
  path.write_text(f'def get_config():\n  {body}\n')
  line = refusal(2, f'--config={path}', '--workdir=run')
  assert str(path) in line
  assert expected in line


def test_a_misspelt_flag_does_not_blame_the_config(refusal):
  line = refusal(2, QUICKSTART, '--wrokdir=run')
  assert 'quickstart.py' not in line
  assert 'workdir' in line


def test_a_misspelt_field_reads_well(refusal):
  line = refusal(2, QUICKSTART, '--config.train.stepz=5')
  assert 'did you mean steps?' in line
  assert '\\n' not in line


OUT_OF_MEMORY = (
  MemoryError('Unable to allocate 2.3 TiB'),
  jax.errors.JaxRuntimeError(
    'RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBuffers: many'
  ),
)


@pytest.fixture(name='failing')
def _failing(monkeypatch):
  """Makes the data stage fail, in one process or in one of several."""

  def leave(code):
    raise SystemExit(code)

  def fail_with(error, distributed):
    def fail(*unused):
      raise error

    monkeypatch.setattr(pipeline.stages, 'make_dataset', fail)
    monkeypatch.setattr(processes, 'join', lambda: None)
    monkeypatch.setattr(console.os, '_exit', leave)
    flags = [QUICKSTART, '--workdir=run', '--mode=data']
    return [*flags, '--distributed'] if distributed else flags

  return fail_with


@pytest.mark.parametrize('distributed', [False, True])
@pytest.mark.parametrize('error', OUT_OF_MEMORY, ids=['host', 'device'])
def test_out_of_memory_says_what_to_lower(refusal, failing, error, distributed):
  line = refusal(2, *failing(error, distributed))
  assert str(error).splitlines()[0] in line
  assert 'Buffers' not in line
  for name in (
    'train.batch_size', 'evaluation.batch_size', 'evaluation.num_beams',
  ):  # fmt: skip
    assert f'config.{name}' in line
  assert 'process' not in line


def test_a_request_that_is_out_of_memory_says_what_to_lower(
  refusal, monkeypatch, tmp_path
):
  def fail(*unused):
    raise MemoryError

  monkeypatch.setattr(Recommender, 'from_workdir', fail)
  (tmp_path / 'run').mkdir()
  line = refusal(2, '--mode=recommend', '--workdir=run', '--history=A')
  assert 'lower --k' in line


@pytest.mark.parametrize('distributed', [False, True])
def test_other_words_for_out_of_memory(refusal, failing, distributed):
  text = 'INTERNAL: Out of memory while trying to allocate 8 bytes'
  error = jax.errors.JaxRuntimeError(text)
  assert 'out of memory' in refusal(2, *failing(error, distributed))


def test_failing_devices_of_several_processes_are_a_peer_error(
  refusal, failing
):
  error = jax.errors.JaxRuntimeError('UNAVAILABLE: gone\nmore')
  line = refusal(6, *failing(error, True))
  assert 'another process is gone' in line and 'UNAVAILABLE: gone' in line


@pytest.mark.parametrize('distributed', [False, True])
def test_failing_devices_of_one_process_keep_their_traceback(
  command, failing, distributed
):
  error = jax.errors.JaxRuntimeError('INTERNAL: a bug')
  if distributed:
    error = ZeroDivisionError('a bug')
    code, _, err = command(*failing(error, True))
    assert code == 1
    assert 'Traceback' in err and 'a bug' in err
    return
  with pytest.raises(jax.errors.JaxRuntimeError, match='a bug'):
    command(*failing(error, False))


def test_batches_that_devices_cannot_share_are_refused_first(refusal, tmp_path):
  line = refusal(2, QUICKSTART, '--workdir=run', '--config.train.batch_size=12')
  assert '8 devices cannot share evenly: try 8' in line
  assert not (tmp_path / 'run').exists()


def test_devices_that_cannot_be_divided_are_refused_first(refusal, tmp_path):
  line = refusal(
    2, QUICKSTART, '--workdir=run', '--config.parallel.fsdp=3', '--mode=train'
  )
  assert 'config.parallel' in line
  assert not (tmp_path / 'run').exists()


def test_stages_that_do_not_train_take_any_devices(command):
  code, _, err = command(
    QUICKSTART, '--workdir=run', '--config.parallel.fsdp=3', '--mode=data',
    '--config.dataset.synthetic_users=5',
  )  # fmt: skip
  assert code == 0, err


def test_a_platform_that_jax_does_not_know(refusal, monkeypatch):
  before, devices = jax.config.jax_platforms, jax.devices

  def fail():
    if jax.config.jax_platforms:
      raise RuntimeError("Unable to initialize backend 'cdua': x (set JAX_...)")
    return devices()

  monkeypatch.setattr(jax, 'devices', fail)
  jax.config.update('jax_platforms', 'cdua')
  try:
    line = refusal(2, QUICKSTART, '--workdir=run', '--mode=data')
  finally:
    jax.config.update('jax_platforms', before)
  assert line.startswith(
    "error: JAX_PLATFORMS is 'cdua', but JAX finds only cpu"
  )


def test_fields_that_a_run_does_not_read_are_reported(command):
  code, _, err = command(
    QUICKSTART, '--workdir=run', '--config.semantic_ids.epochs=3',
    '--config.dataset.synthetic_users=5', '--config.train.batch_size=8000',
  )  # fmt: skip
  assert code == 3
  warning, error = err.splitlines()
  assert warning.startswith('warning: config.semantic_ids.epochs is not read')
  assert "'rq_kmeans'" in warning
  assert 'fewer than one batch of 8000' in error


@pytest.mark.parametrize('mode', ['semantic_ids', 'all', 'bench'])
def test_more_codes_than_items_are_refused_before_items_are_embedded(
  refusal, mode, tmp_path
):
  line = refusal(
    2, QUICKSTART, '--workdir=run', f'--mode={mode}',
    '--config.dataset.synthetic_users=5',
    '--config.semantic_ids.codebook_sizes=(601,8)',
  )  # fmt: skip
  assert 'than there are items, 600: try ' in line
  assert "codebook_sizes='(128, 128, 128)'" in line
  assert not list((tmp_path / 'run').glob('embedding*'))
