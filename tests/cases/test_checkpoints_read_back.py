"""Tests that a checkpoint is read back before it gets its final name."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from tests.training.running import Counter, Run
from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.errors import CheckpointError

RNG = np.random.default_rng(0)
STATE = {
  'kernel': RNG.standard_normal((40, 30)).astype(np.float32),
  'half': jnp.arange(5, dtype=jnp.bfloat16),
  'moments': (np.zeros((4, 3), np.float32), np.int32(7)),
}


def array_files(state):
  """Returns the files of the arrays, the largest first."""
  paths = [x for x in state.rglob('d/*') if x.is_file()]
  return sorted(paths, key=lambda x: -x.stat().st_size)


def truncate(state):
  path = array_files(state)[0]
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(state):
  array_files(state)[0].write_bytes(b'')


def remove(state):
  array_files(state)[0].unlink()


def remove_merged_files(state):
  """Keeps only the files that Orbax writes before it merges them."""
  (state / 'manifest.ocdbt').unlink()
  shutil.rmtree(state / 'd')


def truncate_metadata(state):
  path = state / '_METADATA'
  path.write_bytes(path.read_bytes()[:100])


def remove_chunk(state):
  """Removes a chunk of an array. TensorStore reads missing chunks as zeros."""
  base = {'driver': 'file', 'path': f'{state}/'}
  store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  chunks = ts.KvStore.KeyRange(b'kernel/0', b'kernel/1')
  store.delete_range(chunks).result()


def remove_everything(state):
  shutil.rmtree(state)
  state.mkdir()


class DamagingCheckpointer:
  """An Orbax checkpointer that damages the files after each write."""

  def __init__(self, orbax, damage, writes):
    self._orbax = orbax
    self._damage = damage
    self._writes = writes

  def __enter__(self):
    self._orbax.__enter__()
    return self

  def __exit__(self, *error):
    return self._orbax.__exit__(*error)

  def save(self, path, args):
    if self._writes:
      self._orbax.save(path, args=args)
      self._damage(path)

  def restore(self, path, args):
    return self._orbax.restore(path, args=args)


def damage_writes(monkeypatch, damage, writes=True):
  orbax = checkpoint_folder._orbax
  monkeypatch.setattr(
    checkpoint_folder,
    '_orbax',
    lambda: DamagingCheckpointer(orbax(), damage, writes),
  )


def save_error(folder, **options):
  """Returns the message of the error that a save raises."""
  with pytest.raises(CheckpointError, match='step 1 cannot be saved') as error:
    with Checkpoints(folder, {}) as checkpoints:
      checkpoints.save(1, STATE, {}, **options)
  message = str(error.value)
  assert '\n' not in message
  assert str(folder) in message
  assert 'free space' not in message
  # The folder of an incomplete checkpoint is not named like a step.
  assert [x.name for x in folder.iterdir()] in ([], ['1.partial'])
  with Checkpoints(folder, {}) as checkpoints:
    assert checkpoints.steps() == []
  assert not list(folder.iterdir())
  return message


@pytest.mark.parametrize(
  'damage',
  [
    truncate,
    empty,
    remove,
    remove_merged_files,
    truncate_metadata,
    remove_chunk,
    remove_everything,
  ],
)
def test_a_damaged_write_leaves_no_checkpoint(tmp_path, monkeypatch, damage):
  damage_writes(monkeypatch, damage)
  save_error(tmp_path)


def test_detects_a_save_that_writes_nothing(tmp_path, monkeypatch):
  damage_writes(monkeypatch, None, writes=False)
  save_error(tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: x.pop('kernel'), 'kernel was not written'),
    (
      lambda x: x.update(kernel=np.ones((30, 40), np.float32)),
      r'kernel was written as float32\[30, 40\]',
    ),
    (
      lambda x: x.update(half=np.zeros(5, np.float32)),
      r'half was written as float32\[5\]',
    ),
  ],
)
def test_detects_a_save_that_writes_different_arrays(
  tmp_path, monkeypatch, change, message
):
  save = checkpoint_folder.ocp.args.StandardSave

  def change_and_save(state):
    state = dict(state)
    change(state)
    return save(state)

  monkeypatch.setattr(
    checkpoint_folder.ocp.args, 'StandardSave', change_and_save
  )
  with pytest.raises(CheckpointError, match=message):
    with Checkpoints(tmp_path, {}) as checkpoints:
      checkpoints.save(1, STATE, {})
  assert not (tmp_path / '1').exists()


def test_detects_a_file_that_changes_after_its_digest_is_taken(
  tmp_path, monkeypatch
):
  write = manifest.write

  def write_and_change(folder, metadata):
    write(folder, metadata)
    (folder / 'meta.json').write_text('{}')

  monkeypatch.setattr(manifest, 'write', write_and_change)
  assert 'meta.json is not as it was written' in save_error(tmp_path)


def change_value(state):
  """Writes valid files in which one number of one array differs."""
  changed = dict(STATE, kernel=STATE['kernel'].copy())
  changed['kernel'][3, 4] *= -1
  shutil.rmtree(state)
  with ORBAX() as orbax:
    orbax.save(state, args=checkpoint_folder.ocp.args.StandardSave(changed))


ORBAX = checkpoint_folder._orbax


def test_the_last_checkpoint_is_compared_bit_for_bit(tmp_path, monkeypatch):
  damage_writes(monkeypatch, change_value)
  message = save_error(tmp_path, last=True)
  assert 'kernel is read back with different values' in message


def test_only_the_last_checkpoint_of_a_run_is_restored(tmp_path, monkeypatch):
  restored = []
  check = checkpoint_folder._check_restored

  def record_and_check(folder, state):
    restored.append(folder.name)
    check(folder, state)

  monkeypatch.setattr(checkpoint_folder, '_check_restored', record_and_check)
  run = Run(tmp_path, save_every=4)
  run(Counter())
  assert run.saved() == [4, 8, 10]
  assert restored == ['10.partial']


def test_a_run_fails_if_its_last_checkpoint_cannot_be_read(
  tmp_path, monkeypatch
):
  def fail(folder, like):
    raise ValueError('cannot be decoded')

  monkeypatch.setattr(checkpoint_folder, 'read_state', fail)
  run = Run(tmp_path, save_every=5)
  with pytest.raises(CheckpointError, match='step 10 cannot be saved'):
    run(Counter())
  assert run.saved() == [5]


def test_reads_checkpoints_that_record_no_format_and_no_version(tmp_path):
  with Checkpoints(tmp_path, {}) as checkpoints:
    checkpoints.save(1, STATE, {'skipped': 0})
  path = tmp_path / '1' / 'meta.json'
  contents = json.loads(path.read_text())
  assert contents.pop('format') == checkpoint_folder.FORMAT
  assert contents.pop('version')
  path.write_text(json.dumps(contents))
  manifest.write(tmp_path / '1', {'step': 1})
  with Checkpoints(tmp_path, {}) as checkpoints:
    state, _ = checkpoints.restore(1, STATE)
  np.testing.assert_array_equal(state['kernel'], STATE['kernel'])
