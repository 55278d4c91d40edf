"""A checkpoint gets its final name only after it was read back."""

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


def stored(state):
  """Returns the files of the arrays, the largest first."""
  paths = [x for x in state.rglob('d/*') if x.is_file()]
  return sorted(paths, key=lambda x: -x.stat().st_size)


def truncate(state):
  path = stored(state)[0]
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(state):
  stored(state)[0].write_bytes(b'')


def remove(state):
  stored(state)[0].unlink()


def unmerged(state):
  """Leaves the files that Orbax leaves if it cannot find its own data."""
  (state / 'manifest.ocdbt').unlink()
  shutil.rmtree(state / 'd')


def half_metadata(state):
  path = state / '_METADATA'
  path.write_bytes(path.read_bytes()[:100])


def without_a_chunk(state):
  """TensorStore reads missing chunks as zeros."""
  base = {'driver': 'file', 'path': f'{state}/'}
  store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  chunks = ts.KvStore.KeyRange(b'kernel/0', b'kernel/1')
  store.delete_range(chunks).result()


def everything(state):
  shutil.rmtree(state)
  state.mkdir()


class Sabotaged:
  """A checkpointer whose files are spoiled after each write."""

  def __init__(self, orbax, spoil, writes):
    self._orbax = orbax
    self._spoil = spoil
    self._writes = writes

  def __enter__(self):
    self._orbax.__enter__()
    return self

  def __exit__(self, *error):
    return self._orbax.__exit__(*error)

  def save(self, path, args):
    if self._writes:
      self._orbax.save(path, args=args)
      self._spoil(path)

  def restore(self, path, args):
    return self._orbax.restore(path, args=args)


def sabotage(monkeypatch, spoil, writes=True):
  orbax = checkpoint_folder._orbax
  monkeypatch.setattr(
    checkpoint_folder, '_orbax', lambda: Sabotaged(orbax(), spoil, writes)
  )


def refusal(folder, **how):
  with pytest.raises(CheckpointError, match='step 1 cannot be saved') as error:
    with Checkpoints(folder, {}) as checkpoints:
      checkpoints.save(1, STATE, {}, **how)
  message = str(error.value)
  assert '\n' not in message
  assert str(folder) in message
  assert 'free space' not in message
  # A folder whose name is a step is complete, so this one has another name.
  assert [x.name for x in folder.iterdir()] in ([], ['1.partial'])
  with Checkpoints(folder, {}) as checkpoints:
    assert checkpoints.steps() == []
  assert not list(folder.iterdir())
  return message


@pytest.mark.parametrize(
  'spoil',
  [
    truncate,
    empty,
    remove,
    unmerged,
    half_metadata,
    without_a_chunk,
    everything,
  ],
)
def test_a_spoiled_write_leaves_no_checkpoint(tmp_path, monkeypatch, spoil):
  sabotage(monkeypatch, spoil)
  refusal(tmp_path)


def test_a_write_that_writes_nothing_is_noticed(tmp_path, monkeypatch):
  sabotage(monkeypatch, None, writes=False)
  refusal(tmp_path)


@pytest.mark.parametrize(
  ('change', 'named'),
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
def test_a_write_of_another_structure_is_noticed(
  tmp_path, monkeypatch, change, named
):
  save = checkpoint_folder.ocp.args.StandardSave

  def change_and_save(state):
    state = dict(state)
    change(state)
    return save(state)

  monkeypatch.setattr(
    checkpoint_folder.ocp.args, 'StandardSave', change_and_save
  )
  with pytest.raises(CheckpointError, match=named):
    with Checkpoints(tmp_path, {}) as checkpoints:
      checkpoints.save(1, STATE, {})
  assert not (tmp_path / '1').exists()


def test_a_file_that_changes_after_its_digest_is_noticed(tmp_path, monkeypatch):
  write = manifest.write

  def write_and_spoil(folder, about):
    write(folder, about)
    (folder / 'meta.json').write_text('{}')

  monkeypatch.setattr(manifest, 'write', write_and_spoil)
  assert 'meta.json is not as it was written' in refusal(tmp_path)


def other_values(state):
  """Changes one bit of one array; all files are well-formed."""
  changed = dict(STATE, kernel=STATE['kernel'].copy())
  changed['kernel'][3, 4] *= -1
  shutil.rmtree(state)
  with ORBAX() as orbax:
    orbax.save(state, args=checkpoint_folder.ocp.args.StandardSave(changed))


ORBAX = checkpoint_folder._orbax


def test_the_last_checkpoint_is_compared_bit_for_bit(tmp_path, monkeypatch):
  sabotage(monkeypatch, other_values)
  assert 'kernel is read back with other values' in refusal(tmp_path, last=True)


def test_only_the_last_checkpoint_of_a_run_is_restored(tmp_path, monkeypatch):
  restored = []
  check = checkpoint_folder._check_restored

  def note(folder, state):
    restored.append(folder.name)
    check(folder, state)

  monkeypatch.setattr(checkpoint_folder, '_check_restored', note)
  run = Run(tmp_path, save_every=4)
  run(Counter())
  assert run.saved() == [4, 8, 10]
  assert restored == ['10.partial']


def test_a_run_whose_last_checkpoint_cannot_be_read_fails(
  tmp_path, monkeypatch
):
  def fail(folder, like):
    raise ValueError('cannot be decoded')

  monkeypatch.setattr(checkpoint_folder, 'read_state', fail)
  run = Run(tmp_path, save_every=5)
  with pytest.raises(CheckpointError, match='step 10 cannot be saved'):
    run(Counter())
  assert run.saved() == [5]


def test_checkpoints_without_a_format_are_read(tmp_path):
  """Their JSON has neither a format nor a version."""
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
