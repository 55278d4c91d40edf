"""Tests of the shardings of arrays on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.networks import make_batch, make_task
from tiger_jax.config import OptimizerConfig
from tiger_jax.runtime import sharding
from tiger_jax.runtime.sharding import (
  make_mesh,
  num_batch_shards,
  put,
  replicate,
  shard_batch,
  state_shardings,
)
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state

# All sizes but `head_dim`, which is not sharded, are divisible by 8. Adafactor
# factors a matrix only if both axes have at least 128 entries.
SIZES = {
  'd_model': 128,
  'num_heads': 8,
  'head_dim': 2,
  'mlp_dim': 256,
  'num_user_tokens': 16,
  'prefix_embeddings': 64,
}
LEVEL_SIZES = (16, 8, 8)
# The shapes of parameters of TIGER and of their shards, on a mesh with data 1,
# fsdp 2 and tensor 4.
SHARD_SHAPES = {
  'code_embedding/embedding': ((32, 128), (8, 64)),
  'user_embedding/embedding': ((16, 128), (4, 64)),
  'prefix_embedding/embedding': ((80, 128), (20, 64)),
  'encoder/attention_0/query/kernel': ((128, 8, 2), (64, 2, 2)),
  'encoder/attention_0/key/kernel': ((128, 8, 2), (64, 2, 2)),
  'encoder/attention_0/out/kernel': ((8, 2, 128), (2, 2, 64)),
  'encoder/mlp_0/up/kernel': ((128, 256), (64, 64)),
  'encoder/mlp_0/down/kernel': ((256, 128), (64, 64)),
  'decoder/self_attentions_0/value/kernel': ((128, 8, 2), (64, 2, 2)),
  'decoder/cross_attentions_0/query/kernel': ((128, 8, 2), (64, 2, 2)),
  'decoder/mlps_0/up/kernel': ((128, 256), (64, 64)),
  'heads_0/kernel': ((128, 16), (64, 4)),
  'heads_2/kernel': ((128, 8), (64, 2)),
  'start': ((128,), (128,)),
  'encoder/final_norm/scale': ((128,), (128,)),
}


def make_state(recipe='adamw', replicas=1, **changes):
  """Returns the training state of a TIGER, with shapes in place of arrays."""
  task = make_task(level_sizes=LEVEL_SIZES, **SIZES | changes)
  optimizer = make_optimizer(OptimizerConfig(recipe), 5)
  runs = list(range(replicas))
  return jax.eval_shape(lambda: init_state(task, optimizer, runs))


def by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): x
    for path, x in jax.tree.leaves_with_path(tree)
  }


def shard_shapes_of(mesh, state, num_leading=0):
  """Returns the shape and the shard shape of every array, by path."""
  shapes, shardings = by_path(state), state_shardings(mesh, state, num_leading)
  return {
    path: (shapes[path].shape, x.shard_shape(shapes[path].shape))
    for path, x in by_path(shardings).items()
  }


def test_parameters_are_sharded_by_the_rules():
  mesh = make_mesh(fsdp=2, tensor=4)
  shapes = shard_shapes_of(mesh, make_state().params)
  assert {path: shapes[path] for path in SHARD_SHAPES} == SHARD_SHAPES
  # Only small arrays are replicated.
  replicated = {path for path, (shape, part) in shapes.items() if shape == part}
  assert all(
    path.endswith(('start', 'scale', 'position_bias/embedding'))
    or 'position_bias' in path
    for path in replicated
  ), replicated


def test_moments_of_adam_are_sharded_like_parameters():
  mesh = make_mesh(fsdp=2, tensor=4)
  state = make_state('adamw')
  expected = shard_shapes_of(mesh, state.params)
  shapes = shard_shapes_of(mesh, state)
  for moment in ('mu', 'nu'):
    moment_shapes = {
      path.split(f'/{moment}/')[1]: x
      for path, x in shapes.items()
      if f'/{moment}/' in path
    }
    assert moment_shapes == expected
  assert shapes['step'] == ((), ())


def test_factors_of_adafactor_are_replicated():
  """A factor has the path of its matrix but fewer axes, and is small."""
  mesh = make_mesh(fsdp=2, tensor=4)
  state = make_state('adafactor')
  shapes = shard_shapes_of(mesh, state)
  params = shard_shapes_of(mesh, state.params)
  num_factors = {'v_row': 0, 'v_col': 0, 'v': 0}
  for path, (shape, part) in shapes.items():
    name = next((x for x in num_factors if f'/{x}/' in path), None)
    if name is None:
      continue
    param_shapes = params[path.split(f'/{name}/')[1]]
    if shape == param_shapes[0]:  # Too small to be factored.
      assert (shape, part) == param_shapes
    else:
      assert shape == part
      num_factors[name] += shape != (1,)
  assert num_factors['v_row'] == num_factors['v_col'] > 0
  replicated = [shape for shape, part in shapes.values() if shape == part]
  assert max(map(np.prod, replicated)) <= 256


@pytest.mark.parametrize('recipe', ['adamw', 'adafactor', 'adagrad'])
def test_replicas_have_a_leading_axis(recipe):
  mesh = make_mesh(fsdp=2, tensor=4)
  one = shard_shapes_of(mesh, make_state(recipe))
  three = shard_shapes_of(mesh, make_state(recipe, 3), num_leading=1)
  assert three.pop('step') == one.pop('step') == ((), ())
  assert three == {
    path: ((3, *shape), (3, *part)) for path, (shape, part) in one.items()
  }


@pytest.mark.parametrize(
  ('changes', 'path', 'part'),
  [
    # 3 heads are not divisible by 4 devices; the width is divisible by 2.
    ({'num_heads': 3}, 'encoder/attention_0/query/kernel', (64, 3, 2)),
    ({'num_heads': 3}, 'encoder/attention_0/out/kernel', (3, 2, 64)),
    ({'d_model': 5}, 'encoder/attention_0/query/kernel', (5, 2, 2)),
    ({'d_model': 5, 'mlp_dim': 6}, 'encoder/mlp_0/up/kernel', (5, 6)),
    ({'num_user_tokens': 7}, 'user_embedding/embedding', (7, 64)),
  ],
)
def test_an_axis_that_is_not_divisible_is_replicated(changes, path, part):
  mesh = make_mesh(fsdp=2, tensor=4)
  shapes = shard_shapes_of(mesh, make_state(**changes).params)
  assert shapes[path][1] == part


@pytest.mark.parametrize(
  ('fsdp', 'tensor', 'shape'),
  [(1, 1, (8, 1, 1)), (2, 2, (2, 2, 2)), (8, 1, (1, 8, 1)), (4, 1, (2, 4, 1))],
)
def test_a_mesh_has_the_axes_data_fsdp_and_tensor(fsdp, tensor, shape):
  mesh = make_mesh(fsdp=fsdp, tensor=tensor)
  assert mesh.axis_names == ('data', 'fsdp', 'tensor')
  assert mesh.devices.shape == shape
  assert num_batch_shards(mesh) == shape[0] * shape[1]


def test_a_mesh_can_use_a_subset_of_the_devices():
  assert make_mesh(jax.devices()[:1]).size == 1
  assert make_mesh(jax.devices()[2:4], tensor=2).shape['tensor'] == 2


def test_a_number_of_devices_that_does_not_fit_the_mesh_is_refused():
  with pytest.raises(ValueError, match='8 devices .* fsdp 3 x tensor 1'):
    make_mesh(fsdp=3)
  with pytest.raises(ValueError, match='2 devices .* fsdp 2 x tensor 2'):
    make_mesh(jax.devices()[:2], fsdp=2, tensor=2)


def shard_shapes(x):
  return {shard.data.shape for shard in x.addressable_shards}


@pytest.mark.parametrize(
  ('mesh', 'rows'), [((1, 1), 2), ((2, 2), 4), ((8, 1), 2), ((1, 8), 16)]
)
def test_a_batch_is_sharded_over_data_and_fsdp(mesh, rows):
  batch = shard_batch(make_mesh(None, *mesh), make_batch(0, 16))
  assert shard_shapes(batch.history) == {(rows, 4)}
  assert shard_shapes(batch.target) == {(rows,)}
  np.testing.assert_array_equal(batch.history, make_batch(0, 16).history)


@pytest.mark.parametrize('tensor', [1, 2])
def test_the_rows_of_a_process_are_those_of_its_devices(tensor):
  mesh = sharding.make_mesh(fsdp=2, tensor=tensor)
  rows = np.arange(16)
  placed = shard_batch(mesh, rows)
  for first in range(0, 8, 2):
    devices = list(mesh.devices.flat)[first : first + 2]
    own = sharding.own_rows(mesh, 16, devices)
    held = [
      set(shard.data.tolist())
      for shard in placed.addressable_shards
      if shard.device in devices
    ]
    assert set(rows[own].tolist()) == set.union(*held)
    assert own.sum() == 4
  # A batch that is not divisible is replicated.
  assert sharding.own_rows(mesh, 15, devices).all()


def test_a_batch_that_is_not_divisible_is_replicated():
  batch = shard_batch(make_mesh(), make_batch(0, 11))
  assert shard_shapes(batch.history) == {(11, 4)}
  np.testing.assert_array_equal(batch.history, make_batch(0, 11).history)


def test_a_stack_is_sharded_along_its_second_axis():
  stack = np.arange(3 * 16).reshape(3, 16)
  placed = shard_batch(make_mesh(), stack, axis=1)
  assert shard_shapes(placed) == {(3, 2)}
  np.testing.assert_array_equal(placed, stack)


def test_replicate_copies_each_array_to_all_devices():
  tree = replicate(make_mesh(), {'a': np.arange(3), 'b': jnp.ones((2, 2))})
  for leaf in jax.tree.leaves(tree):
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == 8


def test_fetch_returns_what_was_put():
  mesh = make_mesh(fsdp=2, tensor=2)
  tree = {
    'up': {'kernel': np.arange(32.0, dtype=np.float32).reshape(4, 8)},
    'rest': np.arange(3, dtype=np.int8),
  }
  placed = put(tree, state_shardings(mesh, tree))
  assert shard_shapes(placed['up']['kernel']) == {(2, 4)}
  fetched = sharding.fetch(placed)
  for a, b in zip(jax.tree.leaves(fetched), jax.tree.leaves(tree), strict=True):
    assert isinstance(a, np.ndarray)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_fetch_compiles_one_program_for_equal_shapes(monkeypatch):
  mesh = make_mesh()
  arrays = [np.full((16, 3), i) for i in range(3)]
  placed = [shard_batch(mesh, x) for x in arrays]
  # As with several processes.
  monkeypatch.setattr(type(placed[0]), 'is_fully_addressable', False)
  events = []

  def listen(event, unused_seconds, **unused):
    events.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  fetched = [sharding.fetch(x) for x in placed]
  jax.monitoring.unregister_event_duration_listener(listen)
  assert events.count('/jax/core/compile/backend_compile_duration') == 1
  np.testing.assert_array_equal(fetched, arrays)


def test_fetched_arrays_survive_donation():
  x = jnp.arange(5.0)
  fetched = sharding.fetch({'x': x})
  jax.jit(lambda x: x + 1, donate_argnums=0)(x).block_until_ready()
  assert fetched['x'].tolist() == [0, 1, 2, 3, 4]
