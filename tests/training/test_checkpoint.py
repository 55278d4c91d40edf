import gc
from pathlib import Path
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.errors import CheckpointError, NumbersError
from tiger_jax.training.checkpoint import Checkpoints
from tiger_jax.training.sharding import make_mesh, replicate

# Orbax reads arrays in parallel, and leaves the rest alone when one fails;
# they end in their own time, complaining.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)


@pytest.fixture(autouse=True)
def no_reads_left():
  yield
  time.sleep(0.1)
  gc.collect()


def make_state(scale=1.0):
  return {
    'step': jnp.asarray(7, jnp.int32),
    'params': {
      'kernel': scale * jax.random.normal(jax.random.key(0), (40, 30)),
      'half': jnp.arange(5, dtype=jnp.bfloat16),
    },
    'moments': (jnp.zeros((40, 30)), jnp.ones((), jnp.float32)),
  }


def assert_equal(tree, expected):
  assert jax.tree.structure(tree) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, tree, expected)
  for a, b in zip(
    jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype


def refusal(folder, step, state):
  with pytest.raises(CheckpointError) as error, Checkpoints(folder) as saved:
    saved.restore(step, make_mesh(), state)
  message = str(error.value)
  assert '\n' not in message
  assert str(folder) in message
  assert error.value.exit_code == 4
  return message


@pytest.fixture(scope='module')
def one_device():
  return make_mesh(jax.devices()[:1])


@pytest.fixture(scope='module')
def saved_once(tmp_path_factory):
  """A folder with one checkpoint, at step 7; copy it before changing it."""
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  with Checkpoints(folder, 'score') as checkpoints:
    checkpoints.save(7, make_state(), {'step': 7, 'who': 'é'}, {'score': 0.5})
  return folder


def test_round_trip(saved_once):
  """What is saved from one device comes back on all of them."""
  with Checkpoints(saved_once, 'score') as checkpoints:
    assert checkpoints.latest_step() == 7
    assert checkpoints.best_step() == 7
    state, meta = checkpoints.restore(7, make_mesh(), make_state())
  assert_equal(state, make_state())
  assert meta == {'step': 7, 'who': 'é'}
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == 8


def test_shapes_are_enough_to_restore(saved_once, one_device):
  with Checkpoints(saved_once) as checkpoints:
    state, _ = checkpoints.restore(7, one_device, jax.eval_shape(make_state))
  assert_equal(state, make_state())


def test_from_many_devices_to_one(tmp_path, one_device):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, replicate(make_mesh(), make_state()), {})
  with Checkpoints(tmp_path) as checkpoints:
    state, meta = checkpoints.restore(1, one_device, make_state())
  assert_equal(state, make_state())
  assert meta == {}
  assert len(state['params']['kernel'].sharding.device_set) == 1


def test_an_empty_folder(tmp_path):
  with Checkpoints(tmp_path / 'new', 'score') as checkpoints:
    assert checkpoints.latest_step() is None
    assert checkpoints.best_step() is None
  refusal(tmp_path / 'new', 3, make_state())


def test_a_step_that_is_not_there(saved_once):
  assert 'step 8' in refusal(saved_once, 8, make_state())


@pytest.mark.parametrize(
  'change',
  [
    lambda state: state['params'].update(kernel=jnp.zeros((40, 31))),
    lambda state: state['params'].update(kernel=jnp.zeros((30, 40))),
    lambda state: state['params'].update(kernel=jnp.zeros(1200)),
    lambda state: state['params'].update(half=jnp.zeros(5, jnp.float32)),
    lambda state: state['params'].update(more=jnp.zeros(3)),
    lambda state: state['params'].pop('half'),
    lambda state: state.pop('params'),
    lambda state: state.update(moments=(jnp.zeros((40, 30)),)),
  ],
)
def test_another_model_does_not_fit(saved_once, change):
  state = make_state()
  change(state)
  assert 'step 7 cannot be restored' in refusal(saved_once, 7, state)


def test_only_the_latest_is_kept(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    for step in (2, 4, 6):
      checkpoints.save(step, make_state(step), {'step': step})
    assert checkpoints.latest_step() == 6
  assert step_folders(tmp_path) == [6]


def step_folders(folder):
  return sorted(int(path.name) for path in Path(folder).iterdir())


def test_the_best_and_the_latest_are_kept(tmp_path):
  scores = {1: 0.1, 2: 0.7, 3: 0.3, 4: 0.6}
  with Checkpoints(tmp_path, 'score') as checkpoints:
    for step, score in scores.items():
      values = {'other': -score, 'score': score}
      checkpoints.save(step, make_state(step), {}, values)
    assert checkpoints.best_step() == 2
    assert checkpoints.latest_step() == 4
  assert step_folders(tmp_path) == [2, 4]
  with Checkpoints(tmp_path, 'score') as checkpoints:
    assert checkpoints.best_step() == 2
    state, _ = checkpoints.restore(2, make_mesh(), make_state())
    assert_equal(state, make_state(2))
    checkpoints.save(5, make_state(5), {}, {'other': 0.0, 'score': 0.8})
    assert checkpoints.best_step() == 5
  assert step_folders(tmp_path) == [5]


def test_without_metrics_it_is_never_the_best(tmp_path):
  """As a run saves that is asked to stop between two evaluations."""
  with Checkpoints(tmp_path, 'score') as checkpoints:
    checkpoints.save(1, make_state(1), {}, {'score': 0.1})
    checkpoints.save(2, make_state(2), {}, {'score': 0.3})
    checkpoints.save(3, make_state(3), {})
    assert checkpoints.latest_step() == 3
    assert checkpoints.best_step() == 2
  with Checkpoints(tmp_path, 'score') as checkpoints:
    assert checkpoints.latest_step() == 3
    assert checkpoints.best_step() == 2
    checkpoints.save(4, make_state(4), {}, {'score': 0.2})
    assert checkpoints.best_step() == 2
  assert step_folders(tmp_path) == [2, 4]


def test_a_saved_step_is_left_alone(tmp_path, one_device):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state(1), {'which': 'first'})
    checkpoints.save(1, make_state(2), {'which': 'second'})
  with Checkpoints(tmp_path) as checkpoints:
    state, meta = checkpoints.restore(1, one_device, make_state())
  assert meta == {'which': 'first'}
  assert_equal(state, make_state(1))


def test_what_is_not_finite_is_not_saved(tmp_path):
  state = make_state()
  state['params']['kernel'] = state['params']['kernel'].at[3, 4].set(jnp.nan)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state(), {})
    with pytest.raises(NumbersError, match='params/kernel .* step 2'):
      checkpoints.save(2, state, {})
  assert step_folders(tmp_path) == [1]


def damaged(data):
  """Yields what a bad disk may make of a file."""
  yield b''
  yield data[: len(data) // 2]
  middle = len(data) // 2
  yield data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
  yield bytes(len(data))


def files_of(folder):
  return sorted(
    path.relative_to(folder) for path in folder.rglob('*') if path.is_file()
  )


def test_damage_is_found_or_does_no_harm(saved_once, tmp_path, one_device):
  """No file can change so that something else than what was saved comes back.

  Some files are not needed to read, so not every damage is an error.
  """
  refused = []
  for i, name in enumerate(files_of(saved_once)):
    data = (saved_once / name).read_bytes()
    for j, bad in enumerate((None, *damaged(data))):
      folder = tmp_path / f'{i}-{j}'
      shutil.copytree(saved_once, folder)
      if bad is None:
        (folder / name).unlink()
      else:
        (folder / name).write_bytes(bad)
      try:
        with Checkpoints(folder, 'score') as checkpoints:
          checkpoints.best_step()
          state, meta = checkpoints.restore(7, one_device, make_state())
      except CheckpointError as error:
        assert '\n' not in str(error)
        refused.append((str(name), j))
      else:
        assert_equal(state, make_state())
        assert meta == {'step': 7, 'who': 'é'}
  # The arrays themselves are in the largest file.
  largest = max(
    files_of(saved_once), key=lambda name: (saved_once / name).stat().st_size
  )
  assert {(str(largest), j) for j in range(5)} <= set(refused)
  assert ('7/meta/metadata', 3) in refused
