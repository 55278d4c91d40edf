"""Tests that training gives the same result on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.networks import make_stack, make_task
from tiger_jax.config import OptimizerConfig
from tiger_jax.runtime import sharding
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

STEPS = 4
# Adam would amplify rounding errors of gradients near zero.
ADAGRAD = OptimizerConfig('adagrad', 0.1)
# The sizes of the axes data, fsdp and tensor.
MESHES = [
  (2, 1, 1), (4, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8), (2, 4, 1),
]  # fmt: skip
ONE_DEVICE = (1, 1, 1)
SEEDS = (3,)


def make_mesh(shape):
  data, fsdp, tensor = shape
  devices = jax.devices()[: data * fsdp * tensor]
  return sharding.make_mesh(devices, fsdp, tensor)


class Mlp:
  """A network with dropout, whose parameter names match the sharding rules."""

  tables = np.float32(0.5)

  def __init__(self, num_heads=8):
    self.num_heads = num_heads

  def init(self, rng):
    shapes = {
      'query': (32, self.num_heads, 2),
      'out': (self.num_heads, 2, 32),
      'up': (32, 64),
      'down': (64, 32),
      'heads_0': (32, 16),
    }
    params = {
      name: {'kernel': jax.random.normal(jax.random.fold_in(rng, i), shape)}
      for i, (name, shape) in enumerate(shapes.items())
    }
    params['code_embedding'] = {'embedding': jax.random.normal(rng, (64, 32))}
    return params | {'start': jnp.ones(32)}

  def loss(self, params, tables, batch, rng):
    x = params['code_embedding']['embedding'][batch.history].mean(axis=1)
    x = (x + params['start'][None]) / 4
    x = jnp.einsum('bd,dhk->bhk', x, params['query']['kernel']) / 4
    x = jnp.einsum('bhk,hkd->bd', jnp.tanh(x), params['out']['kernel']) / 4
    x = jnp.tanh(x @ params['up']['kernel'] / 4)
    x = jnp.where(jax.random.bernoulli(rng, tables, x.shape), x, 0)
    x = x @ params['down']['kernel'] @ params['heads_0']['kernel'] / 16
    error = jax.nn.logsumexp(x, axis=1) - x[:, 3]
    return error.mean(), {}, ()


def train(task, mesh, config=ADAGRAD, seeds=SEEDS, size=16):
  """Returns the state after `STEPS` steps, the losses, and the shardings."""
  optimizer = make_optimizer(config, STEPS)
  state = init_state(task, optimizer, seeds)
  shardings = sharding.state_shardings(mesh, state, int(len(seeds) > 1))
  steps = make_steps(task, optimizer, seeds, shardings)
  # Copies, because the steps donate the state.
  state = sharding.put(sharding.fetch(state), shardings)
  tables = sharding.replicate(mesh, task.tables)
  losses = []
  for start in range(0, STEPS, 2):
    stack = make_stack(start, start + 2, size)
    stack = sharding.shard_batch(mesh, stack, axis=1)
    state, results = steps(state, tables, stack)
    losses.append(results.metrics['loss'])
  return state, np.concatenate(losses), shardings


def assert_sharded(state, shardings):
  """Checks that every device holds exactly its shards."""
  for x, expected in zip(
    jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True
  ):
    assert x.sharding.is_equivalent_to(expected, x.ndim)
    shape = expected.shard_shape(x.shape)
    shapes = [shard.data.shape for shard in x.addressable_shards]
    assert shapes == [shape] * len(expected.device_set)


def assert_close(actual, expected, rtol=1e-5, atol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
    jax.device_get(actual),
    jax.device_get(expected),
  )


@functools.cache
def on_one_device(name):
  return train(KINDS[name](), make_mesh(ONE_DEVICE))[:2]


SIZES = {'d_model': 16, 'num_heads': 8, 'head_dim': 2, 'mlp_dim': 16}
KINDS = {
  'mlp': Mlp,
  # Only this TIGER has dropout and user tokens, which take long to compile.
  'bidirectional': functools.partial(
    make_task, level_sizes=(8, 8, 8), num_user_tokens=8, **SIZES
  ),
  'causal': functools.partial(
    make_task,
    level_sizes=(8, 8, 8),
    causal_encoder=True,
    dropout=0.0,
    num_user_tokens=0,
    **SIZES,
  ),
  # A head is a part of the code embedding, whose rows are on several devices.
  'tied': functools.partial(
    make_task,
    level_sizes=(8, 8, 8),
    tied_heads=True,
    dropout=0.0,
    num_user_tokens=0,
    **SIZES,
  ),
}
# The combinations that are not marked as slow.
FAST = {
  'mlp': MESHES,
  'bidirectional': [(8, 1, 1), (2, 2, 2)],
  'causal': [(1, 8, 1), (1, 1, 8)],
  'tied': [(2, 2, 2)],
}


@pytest.mark.parametrize(
  ('name', 'shape'),
  [
    pytest.param(
      name,
      shape,
      marks=[] if shape in FAST[name] else pytest.mark.slow,
      id=f'{name}-{"x".join(map(str, shape))}',
    )
    for name in KINDS
    for shape in MESHES
  ],
)
def test_several_devices_train_like_one(name, shape):
  state, losses, shardings = train(KINDS[name](), make_mesh(shape))
  expected, expected_losses = on_one_device(name)
  assert losses[0] != losses[-1]
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  assert_close(state, expected)
  assert_sharded(state, shardings)
  # The shape of a shard, computed without the sharding rules.
  _, fsdp, tensor = shape
  heads = 'query' if name == 'mlp' else 'decoder/self_attentions_0/query'
  kernel = state.params
  for key in heads.split('/'):
    kernel = kernel[key]
  width, num_heads, head_dim = kernel['kernel'].shape
  shard = kernel['kernel'].addressable_shards[0].data
  assert shard.shape == (width // fsdp, num_heads // tensor, head_dim)


@pytest.mark.parametrize('recipe', ['adamw', 'adafactor'])
def test_every_recipe_gives_equal_results_on_several_devices(recipe):
  config = OptimizerConfig(recipe, 0.01)
  state, losses, shardings = train(Mlp(), make_mesh((2, 2, 2)), config)
  expected, expected_losses, _ = train(Mlp(), make_mesh(ONE_DEVICE), config)
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  assert_close(state.params, expected.params, 1e-4, 1e-4)
  assert_sharded(state, shardings)


def test_replicas_on_several_devices_equal_single_runs():
  seeds = [1, *SEEDS]
  mesh = make_mesh((2, 2, 2))
  state, losses, shardings = train(Mlp(), mesh, ADAGRAD, seeds)
  assert losses.shape == (STEPS, 2)
  assert_sharded(state, shardings)
  single, expected = on_one_device('mlp')
  np.testing.assert_allclose(losses[:, 1], expected, rtol=1e-5)
  assert_close(jax.tree.map(lambda x: x[1], state.params), single.params)


def test_a_batch_that_is_not_divisible_gives_equal_results():
  """The devices cannot share 11 examples evenly, so each has all examples."""
  state, losses, shardings = train(Mlp(), make_mesh((2, 2, 2)), size=11)
  expected, expected_losses, _ = train(Mlp(), make_mesh(ONE_DEVICE), size=11)
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  assert_close(state, expected)
  assert_sharded(state, shardings)


def test_heads_that_are_not_divisible_give_equal_results():
  """The devices cannot share three heads evenly, so each has all heads."""
  state, losses, shardings = train(Mlp(num_heads=3), make_mesh((1, 1, 8)))
  expected, expected_losses, _ = train(Mlp(num_heads=3), make_mesh(ONE_DEVICE))
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  assert_close(state, expected)
  assert_sharded(state, shardings)
  assert state.params['query']['kernel'].sharding.is_fully_replicated
  up = state.params['up']['kernel']
  assert up.addressable_shards[0].data.shape == (32, 8)
