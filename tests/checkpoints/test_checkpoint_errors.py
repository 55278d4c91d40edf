"""Tests of checkpoints that are damaged or cannot be written."""

import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.errors import CheckpointError, DamagedError
from tiger_jax.runtime.sharding import make_mesh

METADATA = {'seed': 7}
MESH = make_mesh()


def make_arrays(scale=1.0):
  kernel = scale * jax.random.normal(jax.random.key(0), (40, 30))
  params = {'kernel': kernel, 'bias': jnp.ones(3)}
  return {'params': params, 'step': jnp.asarray(7)}


@pytest.fixture(name='saved', scope='module')
def _saved(tmp_path_factory):
  """Checkpoints at the steps 2, 4 and 6; copy them before changing them."""
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    for step in (2, 4, 6):
      checkpoints.save(step, make_arrays(step), {}, {'score': step / 10})
  return folder


@pytest.fixture(name='folder')
def _folder(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoints')


def files_of(folder):
  return sorted(
    path.relative_to(folder) for path in folder.rglob('*') if path.is_file()
  )


def damaged(data):
  """Yields damaged versions of a file; None stands for a missing file."""
  yield None
  yield b''
  yield data[: len(data) // 2]
  middle = len(data) // 2
  yield data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
  yield bytes(len(data))
  yield data + b'\0'


def restore(folder, step):
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    return checkpoints.restore(step, make_arrays())


def refusal(folder, step):
  with pytest.raises(DamagedError) as error:
    restore(folder, step)
  message = str(error.value)
  assert '\n' not in message
  assert f'{folder}: step {step} is damaged' in message
  assert f'remove {folder / str(step)} ' in message
  assert error.value.exit_code == 4
  return message


def test_damage_to_every_file_is_detected(folder):
  names = files_of(folder / '6')
  assert {'manifest.json', 'meta.json'} < {str(name) for name in names}
  for name in names:
    path = folder / '6' / name
    data = path.read_bytes()
    for bad in damaged(data):
      if bad == data:  # An empty file cannot be emptied.
        continue
      if bad is None:
        path.unlink()
      else:
        path.write_bytes(bad)
      assert str(name) in refusal(folder, 6)
      path.write_bytes(data)
  restore(folder, 6)


def test_an_additional_file_is_detected(folder):
  (folder / '6' / 'state' / 'more').write_bytes(b'x')
  assert 'state/more is not in manifest.json' in refusal(folder, 6)


def test_files_swapped_between_steps_are_detected(folder):
  """Each file is undamaged, but belongs to another step."""
  for name in files_of(folder / '6'):
    one, two = folder / '4' / name, folder / '6' / name
    if not two.exists() or not one.exists():
      continue
    kept = two.read_bytes()
    if kept == one.read_bytes():
      continue
    two.write_bytes(one.read_bytes())
    refusal(folder, 6)
    two.write_bytes(kept)
  restore(folder, 6)
  shutil.rmtree(folder / '6' / 'state')
  shutil.copytree(folder / '4' / 'state', folder / '6' / 'state')
  refusal(folder, 6)


def test_a_renamed_checkpoint_is_detected(folder):
  shutil.rmtree(folder / '6')
  (folder / '4').rename(folder / '6')
  assert "belongs to {'step': 4}, not to {'step': 6}" in refusal(folder, 6)


def test_the_first_undamaged_checkpoint_is_restored(folder, capsys):
  (folder / '6' / 'meta.json').write_text('{}')
  with Checkpoints(folder, METADATA) as checkpoints:
    step, state, _ = checkpoints.restore_first([6, 4, 2], make_arrays(), MESH)
  assert step == 4
  expected = make_arrays(4)
  np.testing.assert_array_equal(
    state['params']['kernel'], expected['params']['kernel']
  )
  warned = capsys.readouterr().err
  assert 'WARNING' in warned
  assert 'step 6 is damaged (meta.json is not as it was written)' in warned
  assert 'step 6 is skipped' in warned
  assert 'step 4' not in warned


def test_checkpoints_are_tried_in_the_given_order(folder):
  with Checkpoints(folder, METADATA) as checkpoints:
    assert checkpoints.restore_first([2, 6, 4], make_arrays(), MESH)[0] == 2


def test_damage_to_all_checkpoints_is_an_error(folder, capsys):
  for step in (2, 4, 6):
    (folder / str(step) / 'manifest.json').unlink()
  with Checkpoints(folder, METADATA) as checkpoints:
    with pytest.raises(DamagedError, match='step 2 is damaged'):
      checkpoints.restore_first([6, 4, 2], make_arrays(), MESH)
  warned = capsys.readouterr().err
  assert 'step 6 is skipped' in warned
  assert 'step 4 is skipped' in warned


def test_a_checkpoint_of_another_run_is_not_skipped(folder):
  """The older checkpoints belong to that run too, so skipping cannot help."""
  state = make_arrays() | {'more': jnp.ones(2)}
  with Checkpoints(folder, METADATA) as checkpoints:
    with pytest.raises(
      CheckpointError, match='6 belongs to another run'
    ) as error:
      checkpoints.restore_first([6, 4, 2], state, MESH)
  assert not isinstance(error.value, DamagedError)


@pytest.mark.parametrize(
  'text', ['', '[]', '{"metrics": 3}', '{"metrics": {}}']
)
def test_damaged_checkpoints_are_not_ranked(folder, text):
  (folder / '6' / 'meta.json').write_text(text)
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    assert checkpoints.by_metric() == [4, 2]
    assert checkpoints.steps() == [2, 4, 6]


def test_damaged_checkpoints_are_kept_but_not_counted(folder, capsys):
  """A damaged checkpoint is kept, because it may have been the best one."""
  (folder / '6' / 'manifest.json').unlink()
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    for step in (8, 10, 12):
      checkpoints.save(step, make_arrays(step), {}, {'score': step / 100})
    assert checkpoints.steps() == [4, 6, 8, 10, 12]
    assert checkpoints.by_metric() == [4, 12, 10, 8]
  assert (
    'step 6 is damaged (manifest.json is missing)' in capsys.readouterr().err
  )
  for step in (4, 8, 10, 12):
    restore(folder, step)


def test_incomplete_folders_are_removed(folder):
  for name in ('8.partial', '2.old', '6.partial'):
    shutil.copytree(folder / '4', folder / name)
  (folder / '8.partial' / 'manifest.json').unlink()
  with Checkpoints(folder, METADATA) as checkpoints:
    assert checkpoints.steps() == [2, 4, 6]
    assert sorted(path.name for path in folder.iterdir()) == ['2', '4', '6']
    checkpoints.save(8, make_arrays(8), {})
  restore(folder, 8)


class Disk:
  """Simulates a full disk: a save fails when it calls the function `part`."""

  def __init__(self, monkeypatch, part):
    self.is_full = True
    for owner, name in (
      (manifest, 'write'),
      (checkpoint_folder, '_orbax'),
      (Checkpoints, '_remove'),
    ):
      if name == part:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, self.failing(function))

  def failing(self, function):
    def call(*arguments):
      if self.is_full:
        raise OSError(28, 'No space left on device')
      return function(*arguments)

    return call


MESSAGE = 'step 8 cannot be saved .*No space left on device.*free space'


@pytest.mark.parametrize('part', ['_orbax', 'write'])
@pytest.mark.parametrize(
  'call',
  [
    lambda checkpoints: checkpoints.wait(),
    lambda checkpoints: checkpoints.steps(),
    lambda checkpoints: checkpoints.by_metric(),
    lambda checkpoints: checkpoints.save(10, make_arrays(), {}),
  ],
)
def test_an_error_of_a_background_save_is_raised_by_the_next_call(
  folder, monkeypatch, part, call
):
  with Checkpoints(folder, METADATA) as checkpoints:
    disk = Disk(monkeypatch, part)
    checkpoints.save(8, make_arrays(), {})
    with pytest.raises(CheckpointError, match=MESSAGE) as error:
      call(checkpoints)
    assert '\n' not in str(error.value)
    # The error is raised once, and older checkpoints are kept.
    assert checkpoints.steps() == [2, 4, 6]
    disk.is_full = False
  restore(folder, 6)
  with Checkpoints(folder, METADATA) as checkpoints:
    checkpoints.save(8, make_arrays(), {})
  restore(folder, 8)


def test_an_error_of_a_background_save_is_raised_on_exit(folder, monkeypatch):
  Disk(monkeypatch, 'write')
  with pytest.raises(CheckpointError, match=MESSAGE):
    with Checkpoints(folder, METADATA) as checkpoints:
      checkpoints.save(8, make_arrays(), {})


def test_an_error_of_a_background_save_does_not_hide_an_earlier_error(
  folder, monkeypatch, capsys
):
  Disk(monkeypatch, 'write')
  with pytest.raises(KeyError):
    with Checkpoints(folder, METADATA) as checkpoints:
      checkpoints.save(8, make_arrays(), {})
      raise KeyError
  assert 'step 8 cannot be saved' in capsys.readouterr().err


def test_a_failed_removal_is_an_error(folder, monkeypatch):
  Disk(monkeypatch, '_remove')
  with Checkpoints(folder, METADATA) as checkpoints:
    checkpoints.save(8, make_arrays(), {})
    with pytest.raises(CheckpointError, match=MESSAGE):
      checkpoints.wait()
    assert checkpoints.steps() == [2, 4, 6, 8]
  restore(folder, 8)


@pytest.mark.parametrize('error', [KeyError, KeyboardInterrupt, SystemExit])
def test_exit_waits_for_a_running_save(tmp_path, monkeypatch, error):
  write = manifest.write

  def slow(folder, metadata):
    time.sleep(0.3)
    write(folder, metadata)

  monkeypatch.setattr(checkpoint_folder.manifest, 'write', slow)
  with pytest.raises(error):
    with Checkpoints(tmp_path, METADATA) as checkpoints:
      checkpoints.save(1, make_arrays(), {})
      raise error
  assert [path.name for path in tmp_path.iterdir()] == ['1']
  restore(tmp_path, 1)


def test_checkpoints_of_another_run_are_refused_without_reading_arrays(folder):
  with Checkpoints(folder, METADATA) as checkpoints:
    checkpoints.require_same_run()
  with Checkpoints(folder, {'seed': 8}) as checkpoints:
    with pytest.raises(CheckpointError, match='seed is 7, expected 8'):
      checkpoints.require_same_run()
  # A damaged checkpoint is skipped, and the next older one is compared.
  (folder / '6' / 'meta.json').write_text('{"about": {"seed": 9}}')
  with Checkpoints(folder, METADATA) as checkpoints:
    checkpoints.require_same_run()
  for step in (2, 4):
    (folder / str(step) / 'meta.json').unlink()
  with Checkpoints(folder, {'seed': 8}) as checkpoints:
    checkpoints.require_same_run()
