"""Tests of many training steps in one call, and of several replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.networks import (
  make_events,
  make_excerpts,
  make_stack,
  make_task,
)
from tests.training.running import assert_same_bits
from tiger_jax.config import OptimizerConfig
from tiger_jax.data.splits import gather
from tiger_jax.interfaces import Batch
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import (
  init_state,
  make_steps,
  tensor_names,
)

# Results are bit-identical only for programs compiled with the default XLA
# optimizations, as users run them.
pytestmark = pytest.mark.as_users

ADAMW = OptimizerConfig('adamw', 0.01, warmup_steps=2, weight_decay=0.1)
RECIPES = {
  'adamw': ADAMW,
  'adagrad': OptimizerConfig('adagrad', 0.1),
  'adafactor': OptimizerConfig('adafactor', 0.1, warmup_steps=3),
}


class Linear:
  """Predicts the target's vector from the sum of the history's vectors.

  Dropout removes random entries, and every update adds noise to the bias.
  """

  tables = np.float32(0.5)

  def init(self, rng):
    # Adafactor factors the moments of a matrix of this size.
    return {'table': jax.random.normal(rng, (130, 128)), 'bias': jnp.ones(128)}

  def loss(self, params, tables, batch, rng):
    x = params['table'][batch.history] * (batch.history >= 0)[..., None]
    x = jnp.where(jax.random.bernoulli(rng, tables, x.shape), x, 0).sum(axis=1)
    error = x + params['bias'][None] - params['table'][batch.target]
    return jnp.square(error).mean(), {'size': jnp.abs(x).mean()}, ()

  def after_update(self, params, tables, seen, step, rng):
    noise = jax.random.normal(rng, params['bias'].shape)
    return params | {'bias': params['bias'] + 1e-3 * noise}


def train(task, config, seeds, stacks):
  """Returns the last state and the metrics of all steps."""
  optimizer = make_optimizer(config, 6)
  steps = make_steps(task, optimizer, seeds)
  # Copies, because the steps donate the state.
  state = jax.tree.map(jnp.copy, init_state(task, optimizer, seeds))
  metrics = []
  for stack in stacks:
    state, results = steps(state, task.tables, stack)
    metrics.append(results.metrics)
    assert results.finite.all()
  joined = jax.tree.map(lambda *x: np.concatenate(x), *metrics)
  return state, joined


def assert_replica_equals(replicas, single, i, rtol):
  """Compares replica `i` with a single run."""
  (state, metrics), (single_state, single_metrics) = replicas, single
  for name, values in single_metrics.items():
    np.testing.assert_allclose(
      metrics[name][:, i], values, rtol=rtol, atol=1e-6, err_msg=name
    )
  loss = single_metrics['loss']
  np.testing.assert_allclose(metrics['loss'][:, i], loss, rtol=1e-6)
  # Adam amplifies rounding errors of gradients near zero.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4),
    state.params,
    single_state.params,
  )
  assert state.step == single_state.step == 6


def test_replicas_of_tiger_equal_single_runs():
  task = make_task(causal_encoder=True, dropout=0.0, num_user_tokens=0)
  stacks = [make_stack(0, 3), make_stack(3, 6)]
  replicas = train(task, ADAMW, [3, 4], stacks)
  assert replicas[1]['loss'].shape == (6, 2)
  assert np.ptp(replicas[1]['loss'], axis=1).min() > 1e-3
  assert_replica_equals(replicas, train(task, ADAMW, [4], stacks), 1, 1e-4)


@pytest.mark.parametrize('recipe', RECIPES)
def test_replicas_of_each_recipe_equal_single_runs(recipe):
  task, stacks = Linear(), [make_stack(0, 6)]
  config = RECIPES[recipe]
  # The largest seeds do not fit in a signed 32-bit integer.
  seeds = [3, 2**32 - 5]
  replicas = train(task, config, seeds, stacks)
  for i, seed in enumerate(seeds):
    single = train(task, config, [seed], stacks)
    assert_replica_equals(replicas, single, i, 1e-5)
  assert np.ptp(replicas[1]['loss'][-1]) > 1e-3


def test_steps_in_one_call_equal_single_steps():
  stack = train(Linear(), ADAMW, [1], [make_stack(0, 4)])
  for sizes in ((1, 1, 1, 1), (3, 1)):
    ends = np.cumsum(sizes)
    parts = [
      make_stack(end - size, end) for end, size in zip(ends, sizes, strict=True)
    ]
    assert_same_bits(train(Linear(), ADAMW, [1], parts), stack)


def test_training_on_excerpts_equals_training_on_batches():
  events = make_events()
  excerpts = make_excerpts(0, 4)
  batches = [
    gather(events, excerpts.examples.at(i), excerpts.width) for i in range(4)
  ]
  stack = Batch(*map(np.stack, zip(*batches, strict=True)))
  state, metrics = train(make_task(events), ADAMW, [1], [excerpts])
  expected_state, expected = train(make_task(), ADAMW, [1], [stack])
  # The two programs round differently on some processors.
  assert metrics.keys() == expected.keys()
  for name, values in expected.items():
    np.testing.assert_allclose(metrics[name], values, 1e-5, err_msg=name)
  # Adam amplifies rounding errors of gradients near zero.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    state.params,
    expected_state.params,
  )


def test_random_draws_depend_on_the_seed():
  task, stacks = Linear(), [make_stack(0, 2)]
  one, two, other = (train(task, ADAMW, [seed], stacks) for seed in (5, 5, 6))
  assert_same_bits(one, two)
  assert not np.allclose(one[1]['size'], other[1]['size'], rtol=1e-3)


class Recorder:
  """Logs the random draws of `loss` and of the previous `after_update`."""

  tables = ()

  def init(self, rng):
    return {'w': jnp.zeros(2), 'after': jnp.zeros(2)}

  def loss(self, params, tables, batch, rng):
    loss = (params['w'] * jnp.array([300.0, 400.0])).sum()
    before, drawn = params['after'], jax.random.uniform(rng)
    return loss, {'drawn': drawn, 'step': before[0], 'drew': before[1]}, ()

  def after_update(self, params, tables, seen, step, rng):
    return params | {'after': jnp.stack([step, jax.random.uniform(rng)])}


@pytest.mark.parametrize('num_replicas', [1, 3])
def test_every_step_has_new_random_draws(num_replicas):
  seeds = list(range(num_replicas))
  stack = np.zeros((5, 1), np.float32)
  _, metrics = train(Recorder(), ADAMW, seeds, [stack])
  # The draws of five losses, and of `after_update` in the first four steps.
  drawn = np.concatenate([metrics['drawn'], metrics['drew'][1:]])
  assert len(np.unique(drawn)) == drawn.size == 9 * num_replicas
  steps = metrics['step'].reshape(5, -1)
  np.testing.assert_array_equal(steps[1:, 0], np.arange(4))
  # The norm is logged before clipping.
  np.testing.assert_allclose(metrics['gradient_norm'], 500, rtol=1e-6)


class Fragile:
  """A task whose loss or gradient is infinite for some batches."""

  tables = ()

  def init(self, rng):
    return {'a': jnp.ones(2), 'b': {'c': jnp.ones(3)}}

  def loss(self, params, tables, batch, rng):
    a, c = params['a'], params['b']['c']
    # The square root of zero is finite, but its derivative is not.
    loss = jnp.sqrt(c * batch['root']).sum() + a.sum() + batch['more']
    return loss, {}, ()


def test_tensors_that_are_not_finite_are_named():
  task = Fragile()
  optimizer = make_optimizer(ADAMW, 6)
  steps = make_steps(task, optimizer, [0])
  make = jax.jit(lambda: init_state(task, optimizer, [0]))
  names = tensor_names(make())
  assert names == [
    'parameter a',
    'parameter b/c',
    'loss',
    'gradient of a',
    'gradient of b/c',
  ]

  def bad(state=None, root=1.0, more=0.0):
    stack = {'root': np.array([1, root]), 'more': np.array([0, more])}
    stack = {name: x.astype(np.float32) for name, x in stack.items()}
    _, results = steps(state or make(), (), stack)
    finite = np.asarray(results.finite)
    assert finite.shape == (2, len(names))
    bad_names = [
      [name for name, ok in zip(names, row, strict=True) if not ok]
      for row in finite
    ]
    return bad_names if state else bad_names[1]

  assert bad() == []
  assert bad(more=np.inf) == ['loss']
  assert bad(root=0.0) == ['gradient of b/c']
  state = make()
  state.params['b']['c'] = state.params['b']['c'].at[2].set(jnp.nan)
  rows = bad(state)
  assert rows[0] == ['parameter b/c', 'loss', 'gradient of b/c']
  # Clipping by the global norm makes all parameters NaN.
  assert rows[1][:2] == ['parameter a', 'parameter b/c']


def test_finiteness_is_reported_per_replica():
  task = Fragile()
  optimizer = make_optimizer(ADAMW, 6)
  seeds = [0, 1]
  state = init_state(task, optimizer, seeds)
  state.params['a'] = state.params['a'].at[1, 0].set(jnp.inf)
  ones = np.ones(1, np.float32)
  _, results = make_steps(task, optimizer, seeds)(
    state, (), {'root': ones, 'more': ones}
  )
  finite = np.asarray(results.finite)
  assert finite.shape == (1, 2, 5)
  assert finite[0, 0].all()
  assert finite[0, 1].tolist()[:3] == [False, True, False]


def test_the_state_is_donated():
  task, optimizer = Linear(), make_optimizer(ADAMW, 6)
  state = jax.jit(lambda: init_state(task, optimizer, [0]))()
  steps = make_steps(task, optimizer, [0])
  new, _ = steps(state, task.tables, make_stack(0, 1))
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
  assert new.step == 1
