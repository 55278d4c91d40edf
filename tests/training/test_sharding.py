import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.config import ModelConfig, OptimizerConfig
from tiger_jax.models.tiger import Tiger
from tiger_jax.shapes import Batch
from tiger_jax.training.loop import init_state, make_step
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.sharding import make_mesh, replicate, shard_batch
from tiger_jax.training.tiger import TigerTask

LEVEL_SIZES = (5, 5, 2)
MODEL = ModelConfig(
  max_history=4,
  d_model=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=16,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout=0.3,
  num_user_tokens=3,
)
# Unlike Adam, it does not blow up the rounding of a gradient that is nearly 0.
OPTIMIZER = OptimizerConfig('adagrad', 0.1)


def make_task():
  codes = np.stack(np.unravel_index(np.arange(30), (5, 3, 2)), axis=1)
  return TigerTask(Tiger(MODEL, LEVEL_SIZES), jnp.asarray(codes, jnp.int32))


class NoisyTable:
  """Compiles faster: a vector per item, half of it dropped at random."""

  tables = np.float32(0.5)

  def init(self, rng):
    return {'table': jax.random.normal(rng, (30, 4))}

  def loss(self, params, tables, batch, rng):
    x = params['table'][batch.history] * (batch.history >= 0)[..., None]
    x = jnp.where(jax.random.bernoulli(rng, tables, x.shape), x, 0).sum(axis=1)
    return jnp.square(x - params['table'][batch.target]).mean(), {}, ()

  def after_update(self, params, tables, seen, step, rng):
    return params


def make_batch(step, size):
  rng = np.random.default_rng(step)
  history = rng.integers(0, 30, (size, 4)).astype(np.int32)
  lengths = rng.integers(1, 5, size)
  history[np.arange(4)[None] >= lengths[:, None]] = -1
  target = rng.integers(0, 30, size).astype(np.int32)
  target[-1] = -1  # A row that only fills the batch.
  user = rng.integers(-1, 9, size).astype(np.int32)
  return Batch(history, user, target)


def train(task, mesh, batch_size, num_steps=5):
  optimizer = make_optimizer(OPTIMIZER, num_steps)
  step = make_step(task, optimizer, seed=3)
  state = replicate(mesh, init_state(task, optimizer, 3))
  tables = replicate(mesh, task.tables)
  losses = []
  for i in range(num_steps):
    batch = shard_batch(mesh, make_batch(i, batch_size))
    state, metrics = step(state, tables, batch)
    losses.append(float(metrics['loss']))
  return state, losses


@pytest.fixture(name='one', scope='module')
def _one():
  return make_mesh(jax.devices()[:1])


@pytest.mark.parametrize(
  ('make', 'batch_size'), [(make_task, 16), (NoisyTable, 16), (NoisyTable, 11)]
)
def test_eight_devices_train_as_one_does(one, make, batch_size):
  eight = make_mesh()
  assert eight.size == 8
  state, losses = train(make(), eight, batch_size)
  expected, expected_losses = train(make(), one, batch_size)
  assert losses[0] != losses[-1]
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    jax.device_get(state),
    jax.device_get(expected),
  )
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == 8


def test_a_batch_is_spread_over_the_devices():
  mesh = make_mesh()
  batch = shard_batch(mesh, make_batch(0, 16))
  shapes = {shard.data.shape for shard in batch.history.addressable_shards}
  assert shapes == {(2, 4)}
  np.testing.assert_array_equal(batch.history, make_batch(0, 16).history)


def test_a_batch_that_devices_do_not_divide_is_whole_on_each():
  mesh = make_mesh()
  batch = shard_batch(mesh, make_batch(0, 11))
  shapes = {shard.data.shape for shard in batch.history.addressable_shards}
  assert shapes == {(11, 4)}
  np.testing.assert_array_equal(batch.history, make_batch(0, 11).history)


def test_a_stack_is_spread_along_its_second_axis():
  stack = np.arange(3 * 16).reshape(3, 16)
  placed = shard_batch(make_mesh(), stack, axis=1)
  shapes = {shard.data.shape for shard in placed.addressable_shards}
  assert shapes == {(3, 2)}
  np.testing.assert_array_equal(placed, stack)


def test_a_mesh_of_chosen_devices(one):
  assert one.size == 1
  assert make_mesh().axis_names == ('data',)


def test_replicate(one):
  tree = replicate(make_mesh(), {'a': np.arange(3), 'b': jnp.ones((2, 2))})
  for leaf in jax.tree.leaves(tree):
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == 8


def test_the_step_lowers_for_every_platform():
  task = make_task()
  optimizer = make_optimizer(OPTIMIZER, 5)
  step = make_step(task, optimizer, seed=0)
  state = jax.eval_shape(lambda: init_state(task, optimizer, 0))
  platforms = ('cpu', 'cuda', 'tpu')
  exported = jax.export.export(step, platforms=platforms)(
    state, task.tables, make_batch(0, 8)
  )
  assert exported.platforms == platforms
  assert exported.out_avals[0].shape == ()
