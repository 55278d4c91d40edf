"""Tests that parameters can be read without the optimizer state."""

import json
import shutil

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.checkpoints import old_formats
from tests.checkpoints.test_checkpoint_errors import damaged, files_of
from tests.training.running import (
  Run,
  assert_same_bits,
  first_state,
  real_task,
)
from tiger_jax.checkpoints import checkpoint_folder, manifest
from tiger_jax.checkpoints.checkpoints import Checkpoints
from tiger_jax.errors import CheckpointError, DamagedError
from tiger_jax.runtime.sharding import make_mesh

METADATA = {'seed': 7}
MESH = make_mesh()


def make_params(scale=1.0):
  return {
    'up': {'kernel': scale * jax.random.normal(jax.random.key(0), (40, 30))},
    'half': scale * jnp.arange(5, dtype=jnp.bfloat16),
  }


def make_state(scale=1.0):
  params = make_params(scale)
  return {
    'step': jnp.asarray(7),
    'params': params,
    'opt_state': optax.adam(1e-3).init(params),
  }


@pytest.fixture(name='saved', scope='module')
def _saved(tmp_path_factory):
  """Checkpoints at steps 2 and 4; step 4 has the better metric."""
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    for step in (2, 4):
      checkpoints.save(
        step, make_state(step), {'n': step}, {'score': step / 10}
      )
  return folder


@pytest.fixture(name='folder')
def _folder(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoints')


def read(folder, like=None):
  """Reads the parameters as serving does."""
  with Checkpoints(folder, METADATA, 'score', writes=False) as checkpoints:
    steps = checkpoints.by_metric()
    return checkpoints.restore_params(steps, like or make_params(), MESH)


def assert_reads(folder, expected):
  step, params, meta = read(folder)
  assert step == expected
  assert (meta['n'], meta['metrics']) == (step, {'score': step / 10})
  assert jax.tree.structure(params) == jax.tree.structure(make_params())
  assert_same_bits(params, make_params(step))


def test_params_and_state_are_separate_folders(saved):
  names = {path.name for path in (saved / '4').iterdir()}
  assert names == {'manifest.json', 'meta.json', 'params', 'state'}
  assert_reads(saved, 4)
  shapes = jax.eval_shape(make_params)
  assert_same_bits(read(saved, shapes)[1], make_params(4))


def test_damage_to_the_parameters_is_detected(folder, capsys):
  names = [
    name
    for name in files_of(folder / '4')
    if name.parts[0] in ('manifest.json', 'meta.json', 'params')
  ]
  assert len(names) > 5
  for name in names:
    path = folder / '4' / name
    data = path.read_bytes()
    for bad in damaged(data):
      if bad == data:
        continue
      if bad is None:
        path.unlink()
      else:
        path.write_bytes(bad)
      assert_reads(folder, 2)
      err = capsys.readouterr().err
      assert f'step 4 is skipped: {folder}: step 4 is damaged ({name}' in err
      path.write_bytes(data)
  (folder / '4' / 'params' / 'more').touch()
  assert_reads(folder, 2)


def test_damage_to_the_parameters_of_all_steps_is_an_error(folder):
  for step in (2, 4):
    shutil.rmtree(folder / str(step) / 'params')
  with pytest.raises(DamagedError, match='step 2 is damaged') as error:
    read(folder)
  assert '\n' not in str(error.value)


def test_damaged_optimizer_state_matters_only_for_resuming(folder, capsys):
  names = [x for x in files_of(folder / '4') if x.parts[0] == 'state']
  assert len(names) > 5
  for name in names:
    path = folder / '4' / name
    data = path.read_bytes()
    for bad in damaged(data):
      if bad == data:
        continue
      if bad is None:
        path.unlink()
      else:
        path.write_bytes(bad)
      assert_reads(folder, 4)
      with Checkpoints(folder, METADATA, 'score') as checkpoints:
        with pytest.raises(DamagedError, match=f'{name} is'):
          checkpoints.restore(4, make_state())
      path.write_bytes(data)
  assert capsys.readouterr().err == ''


def test_the_optimizer_state_may_be_missing(folder, capsys):
  shutil.rmtree(folder / '4' / 'state')
  assert_reads(folder, 4)
  assert capsys.readouterr().err == ''
  with Checkpoints(folder, METADATA, 'score') as checkpoints:
    # With `writes=True`, all files are checked, because this process may remove
    # checkpoints.
    assert checkpoints.by_metric() == [2]
    restored = checkpoints.restore_first([4, 2], make_state(), MESH)
  assert restored[0] == 2
  assert 'step 4 is skipped' in capsys.readouterr().err


def test_only_the_files_that_are_read_are_hashed(saved, monkeypatch):
  hashed = []
  describe = manifest._size_and_digest
  monkeypatch.setattr(
    manifest,
    '_size_and_digest',
    lambda path: hashed.append(path) or describe(path),
  )
  read(saved)
  parts = {path.relative_to(saved).parts[:2] for path in hashed}
  assert parts == {('2', 'meta.json'), ('4', 'meta.json'), ('4', 'params')}


def test_parameters_of_a_different_model_are_refused(saved):
  """Only the parameters are compared, because serving has no optimizer."""
  like = make_params()
  like['up']['kernel'] = jnp.zeros((40, 31))
  with pytest.raises(CheckpointError) as error:
    read(saved, like)
  assert (
    'run: arrays.params/up/kernel is float32[40, 30], expected '
    'float32[40, 31]; choose'
  ) in str(error.value)
  with pytest.raises(CheckpointError, match='arrays.params/more is absent'):
    read(saved, make_params() | {'more': jnp.zeros(3)})


@pytest.mark.parametrize('number', [0, 1, 2])
def test_parameters_of_an_old_format_are_read(folder, number):
  """All files are checked, because one folder contains the whole state."""
  for step in (2, 4):
    old_formats.convert(folder / str(step), make_state(), number)
  assert not (folder / '4' / 'params').exists()
  assert_reads(folder, 4)
  with Checkpoints(folder, METADATA, 'score', writes=False) as checkpoints:
    state, _ = checkpoints.restore(4, jax.eval_shape(make_state))
  assert jax.tree.structure(state) == jax.tree.structure(make_state())
  assert_same_bits(state, make_state(4))
  for name in files_of(folder / '4'):
    path = folder / '4' / name
    data = path.read_bytes()
    if data:
      path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
      assert_reads(folder, 2)
      path.write_bytes(data)


@pytest.mark.parametrize('number', [2, 3])
def test_arrays_that_differ_from_meta_json_are_refused(tmp_path, number):
  """The manifest matches the changed files, as if an attacker wrote both."""
  state = make_state() | {'params': {'a': jnp.zeros((4, 3))}}
  listed = {'a': jnp.zeros((3, 4))}, {'a': jnp.zeros((4, 3)), 'b': jnp.ones(2)}
  for step, params in enumerate(listed):
    folder = tmp_path / str(number) / str(step)
    with Checkpoints(folder, METADATA) as checkpoints:
      checkpoints.save(2, state, {}, {'score': 1.0})
    if number < 3:
      old_formats.convert(folder / '2', state, number)
    path = folder / '2' / 'meta.json'
    contents = json.loads(path.read_text())
    contents['arrays'] = checkpoint_folder.describe({'params': params})
    path.write_text(json.dumps(contents))
    manifest.write(folder / '2', {'step': 2})
    with pytest.raises(DamagedError, match='step 2 cannot be restored'):
      read(folder, params)


def test_a_run_resumes_from_an_old_format(tmp_path):
  task, batches = real_task()
  whole, run = Run(tmp_path / 'whole'), Run(tmp_path / 'run')
  expected = whole(task, batches)
  run(task, batches)
  folder = run.workdir / 'checkpoints'
  shutil.rmtree(folder / '10')
  old_formats.convert(folder / '5', first_state(task), number=1)
  assert_same_bits(run(task, batches), expected)
  assert run.saved() == [5, 10]
  assert run.ledger() == whole.ledger()
