"""Saving and restoring checkpoints."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.errors import CheckpointError, NumbersError
from tiger_jax.runtime.sharding import make_mesh, put, state_shardings

METADATA = {'model': {'width': 30, 'sizes': [1, 2]}, 'seed': 7}


def make_state(scale=1.0):
  return {
    'step': jnp.asarray(7, jnp.int32),
    'params': {
      'up': {'kernel': scale * jax.random.normal(jax.random.key(0), (40, 32))},
      'half': jnp.arange(5, dtype=jnp.bfloat16),
    },
    'moments': (jnp.zeros((40, 30)), jnp.ones((), jnp.float32)),
  }


def assert_equal(tree, expected):
  """Checks that a tree of host arrays equals `expected` in types and bits."""
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True
  ):
    assert isinstance(a, np.ndarray)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == np.asarray(b).tobytes()


def steps_of(folder):
  with Checkpoints(folder, METADATA) as checkpoints:
    return checkpoints.steps()


def refusal(folder, step, state, metadata=METADATA):
  with pytest.raises(CheckpointError) as error:
    with Checkpoints(folder, metadata) as saved:
      saved.restore(step, state)
  message = str(error.value)
  assert '\n' not in message
  assert str(folder) in message
  assert error.value.exit_code == 4
  return message


@pytest.fixture(name='saved_once', scope='module')
def _saved_once(tmp_path_factory):
  """A folder with one checkpoint, at step 7."""
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    checkpoints.save(7, make_state(), {'who': 'é'}, {'score': 0.5})
  return folder


def test_restore_returns_what_was_saved(saved_once):
  with Checkpoints(saved_once, METADATA, 'score') as checkpoints:
    assert checkpoints.steps() == [7]
    assert checkpoints.steps()[-1] == 7
    assert checkpoints.by_metric() == [7]
    state, meta = checkpoints.restore(7, make_state())
  assert_equal(state, make_state())
  assert meta == {'who': 'é', 'metrics': {'score': 0.5}}


def test_restoring_needs_only_shapes(saved_once):
  with Checkpoints(saved_once, METADATA) as checkpoints:
    state, _ = checkpoints.restore(7, jax.eval_shape(make_state))
  assert_equal(state, make_state())


def test_a_tuple_in_the_identity_equals_a_list(saved_once):
  """A tuple and a list have the same JSON."""
  metadata = {'model': {'width': 30, 'sizes': (1, 2)}, 'seed': 7}
  with Checkpoints(saved_once, metadata) as checkpoints:
    checkpoints.restore(7, make_state())


@pytest.mark.parametrize(('saved_on', 'restored_on'), [(8, 1), (1, 8)])
def test_restores_on_another_number_of_devices(tmp_path, saved_on, restored_on):
  state = make_state()

  def place(tree, num_devices):
    mesh = make_mesh(jax.devices()[:num_devices], fsdp=num_devices)
    return put(tree, state_shardings(mesh, tree))

  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, place(state, saved_on), {})
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    restored, _ = checkpoints.restore(1, jax.eval_shape(make_state))
  assert_equal(restored, state)
  placed = place(restored, restored_on)
  assert_equal(jax.device_get(placed), state)
  kernel = placed['params']['up']['kernel']
  shapes = [x.data.shape for x in kernel.addressable_shards]
  assert shapes == [(40 // restored_on, 32)] * restored_on


def test_an_empty_folder_has_no_checkpoints(tmp_path):
  with Checkpoints(tmp_path / 'new', METADATA, 'score') as checkpoints:
    assert checkpoints.steps() == []
    assert checkpoints.steps() == []
    assert checkpoints.by_metric() == []
    assert checkpoints.restore_first([], make_state(), make_mesh()) is None
  refusal(tmp_path / 'new', 3, make_state())


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(CheckpointError, match='it cannot be used') as error:
    Checkpoints(tmp_path / 'file' / 'checkpoints', METADATA)
  assert '\n' not in str(error.value)


def test_a_missing_step_is_refused(saved_once):
  assert 'step 8' in refusal(saved_once, 8, make_state())


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    (
      lambda state: state['params']['up'].update(kernel=jnp.zeros((40, 33))),
      'arrays.params/up/kernel is float32[40, 32], expected float32[40, 33]',
    ),
    (
      lambda state: state['params']['up'].update(kernel=jnp.zeros((32, 40))),
      'arrays.params/up/kernel is float32[40, 32], expected float32[32, 40]',
    ),
    (
      lambda state: state['params'].update(half=jnp.zeros(5, jnp.float32)),
      'arrays.params/half is bfloat16[5], expected float32[5]',
    ),
    (
      lambda state: state['params'].update(more=jnp.zeros(3)),
      'arrays.params/more is absent, expected float32[3]',
    ),
    (
      lambda state: state['params'].pop('half'),
      'arrays.params/half is bfloat16[5], expected absent',
    ),
    (
      lambda state: state.update(moments=(jnp.zeros((40, 30)),)),
      'arrays.moments/1 is float32[], expected absent',
    ),
  ],
)
def test_another_model_is_refused(saved_once, change, named):
  state = make_state()
  change(state)
  message = refusal(saved_once, 7, state)
  assert f'belongs to another run: {named};' in message
  assert '--workdir' in message


@pytest.mark.parametrize(
  ('metadata', 'named'),
  [
    ({**METADATA, 'seed': 8}, 'seed is 7, expected 8'),
    (
      {**METADATA, 'model': {'width': 31, 'sizes': [1, 2]}},
      'model.width is 30, expected 31',
    ),
    (
      {**METADATA, 'model': {'width': 30, 'sizes': [2]}},
      'model.sizes is [1, 2], expected [2]',
    ),
    ({**METADATA, 'more': None}, 'more is absent, expected None'),
  ],
)
def test_another_run_is_refused(saved_once, metadata, named):
  assert f'run: {named};' in refusal(saved_once, 7, make_state(), metadata)


def test_the_message_names_at_most_ten_differences(tmp_path):
  def make(width):
    return {f'array_{i:02}': np.zeros(width, np.float32) for i in range(30)}

  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, make(3), {})
  message = refusal(tmp_path, 1, make(4))
  assert message.count('expected') == 10
  assert message.count('array_') == 10
  assert 'arrays.array_09 is float32[3], expected float32[4]' in message


def test_a_saved_step_is_not_saved_again(tmp_path):
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, make_state(1), {'which': 'first'})
    checkpoints.save(1, make_state(2), {'which': 'second'})
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    state, meta = checkpoints.restore(1, make_state())
  assert meta['which'] == 'first'
  assert_equal(state, make_state(1))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_saved(tmp_path, value):
  state = make_state()
  kernel = state['params']['up']['kernel']
  state['params']['up']['kernel'] = kernel.at[3, 4].set(value)
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, make_state(), {})
    with pytest.raises(NumbersError, match='params/up/kernel .* step 2') as e:
      checkpoints.save(2, state, {})
  assert e.value.step == 2
  assert [path.name for path in tmp_path.iterdir()] == ['1']


@pytest.fixture(name='gate')
def _gate(monkeypatch):
  """Blocks all writes until the test sets the event."""
  gate = threading.Event()
  orbax = checkpoint_folder._orbax

  def wait():
    assert gate.wait(60)
    return orbax()

  monkeypatch.setattr(checkpoint_folder, '_orbax', wait)
  yield gate
  gate.set()


def test_a_state_may_be_donated_during_a_save(tmp_path, gate):
  state = make_state()
  state['host'] = np.arange(6.0, dtype=np.float32)
  expected = jax.tree.map(np.array, state)
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, state, {})
    state['host'][:] = -1
    host = state.pop('host')
    donate = jax.jit(
      lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
    )
    jax.block_until_ready(donate(state))
    assert state['params']['up']['kernel'].is_deleted()
    del host, state
    # New arrays may reuse the memory of the donated ones.
    jax.block_until_ready([jnp.full((40, 32), 9.0) for _ in range(20)])
    gate.set()
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    restored, _ = checkpoints.restore(1, expected)
  assert_equal(restored, expected)


def test_save_does_not_wait_for_the_disk(tmp_path, gate):
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, make_state(), {})
    assert [x.name for x in tmp_path.iterdir()] in ([], ['1.partial'])
    gate.set()
    assert checkpoints.steps() == [1]


def test_a_checkpoint_is_complete_when_it_gets_its_name(tmp_path, monkeypatch):
  seen = []
  write = manifest.write

  def look(folder, metadata):
    write(folder, metadata)
    seen.append(sorted(path.name for path in tmp_path.iterdir()))
    manifest.check(tmp_path / '4.partial', {'step': 4})

  monkeypatch.setattr(checkpoint_folder.manifest, 'write', look)
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(4, make_state(), {})
  assert seen == [['4.partial']]
  assert [path.name for path in tmp_path.iterdir()] == ['4']


def test_only_the_writing_process_changes_files(tmp_path):
  with Checkpoints(tmp_path / 'a', METADATA) as checkpoints:
    checkpoints.save(1, make_state(), {})
  (tmp_path / 'a' / '2.partial').mkdir()
  with Checkpoints(tmp_path / 'a', METADATA, writes=False) as checkpoints:
    checkpoints.save(2, make_state(), {})
    checkpoints.drop(0, aside=False)
    assert checkpoints.steps() == [1]
    restored, _ = checkpoints.restore(1, make_state())
  assert_equal(restored, make_state())
  assert (tmp_path / 'a' / '2.partial').exists()
  with Checkpoints(tmp_path / 'b', METADATA, writes=False) as checkpoints:
    assert checkpoints.steps() == []
  assert not (tmp_path / 'b').exists()


def test_a_second_save_waits_for_the_first(tmp_path, gate):
  with Checkpoints(tmp_path, METADATA) as checkpoints:
    checkpoints.save(1, make_state(1), {})
    threading.Thread(target=lambda: (time.sleep(0.2), gate.set())).start()
    checkpoints.save(2, make_state(2), {})
    assert (tmp_path / '1').is_dir()
  assert steps_of(tmp_path) == [1, 2]
