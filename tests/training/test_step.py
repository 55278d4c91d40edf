"""A step, many of them in one call, and several runs in one program."""

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

# The claims are about programs as users compile them.
pytestmark = pytest.mark.as_users

ADAMW = OptimizerConfig('adamw', 0.01, warmup_steps=2, weight_decay=0.1)
RECIPES = {
  'adamw': ADAMW,
  'adagrad': OptimizerConfig('adagrad', 0.1),
  'adafactor': OptimizerConfig('adafactor', 0.1, warmup_steps=3),
}


class Linear:
  """Items that are to be the sum of others, with noise in every part."""

  tables = np.float32(0.5)

  def init(self, rng):
    # Adafactor factors the moments of what is so large.
    return {'table': jax.random.normal(rng, (130, 128)), 'bias': jnp.ones(128)}

  def loss(self, params, tables, batch, rng):
    x = params['table'][batch.history] * (batch.history >= 0)[..., None]
    x = jnp.where(jax.random.bernoulli(rng, tables, x.shape), x, 0).sum(axis=1)
    error = x + params['bias'][None] - params['table'][batch.target]
    return jnp.square(error).mean(), {'size': jnp.abs(x).mean()}, ()

  def after_update(self, params, tables, seen, step, rng):
    noise = jax.random.normal(rng, params['bias'].shape)
    return params | {'bias': params['bias'] + 1e-3 * noise}


def take(task, config, seeds, stacks):
  """Returns the last state and the metrics of all steps."""
  optimizer = make_optimizer(config, 6)
  steps = make_steps(task, optimizer, seeds)
  # The state is given away.
  state = jax.tree.map(jnp.copy, init_state(task, optimizer, seeds))
  metrics = []
  for stack in stacks:
    state, taken = steps(state, task.tables, stack)
    metrics.append(taken.metrics)
    assert taken.finite.all()
  joined = jax.tree.map(lambda *x: np.concatenate(x), *metrics)
  return state, joined


def assert_learns_as(found, expected, i, rtol):
  """Compares a replica with a run of its own."""
  (state, metrics), (alone, alone_metrics) = found, expected
  for name, values in alone_metrics.items():
    np.testing.assert_allclose(
      metrics[name][:, i], values, rtol=rtol, atol=1e-6, err_msg=name
    )
  loss = alone_metrics['loss']
  np.testing.assert_allclose(metrics['loss'][:, i], loss, rtol=1e-6)
  # Adam makes much of the rounding of a gradient that is nearly 0.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4),
    state.params,
    alone.params,
  )
  assert state.step == alone.step == 6


def test_replicas_of_tiger_learn_what_they_learn_alone():
  task = make_task(causal_encoder=True, dropout=0.0, num_user_tokens=0)
  stacks = [make_stack(0, 3), make_stack(3, 6)]
  found = take(task, ADAMW, [3, 4], stacks)
  assert found[1]['loss'].shape == (6, 2)
  assert np.ptp(found[1]['loss'], axis=1).min() > 1e-3
  assert_learns_as(found, take(task, ADAMW, [4], stacks), 1, 1e-4)


@pytest.mark.parametrize('recipe', RECIPES)
def test_replicas_learn_what_they_learn_alone(recipe):
  task, stacks = Linear(), [make_stack(0, 6)]
  config = RECIPES[recipe]
  # The greatest seeds do not fit a signed integer.
  seeds = [3, 2**32 - 5]
  found = take(task, config, seeds, stacks)
  for i, seed in enumerate(seeds):
    assert_learns_as(found, take(task, config, [seed], stacks), i, 1e-5)
  assert np.ptp(found[1]['loss'][-1]) > 1e-3


def test_a_stack_is_its_single_steps_bit_for_bit():
  stack = take(Linear(), ADAMW, [1], [make_stack(0, 4)])
  for sizes in ((1, 1, 1, 1), (3, 1)):
    ends = np.cumsum(sizes)
    parts = [
      make_stack(end - size, end) for end, size in zip(ends, sizes, strict=True)
    ]
    assert_same_bits(take(Linear(), ADAMW, [1], parts), stack)


def test_excerpts_in_a_stack_are_batches_one_by_one_bit_for_bit():
  events = make_events()
  excerpts = make_excerpts(0, 4)
  stack = take(make_task(events), ADAMW, [1], [excerpts])
  batches = [
    gather(events, excerpts.examples.at(i), excerpts.width) for i in range(4)
  ]
  single = [Batch(*(x[None] for x in batch)) for batch in batches]
  assert_same_bits(take(make_task(), ADAMW, [1], single), stack)


def test_the_seed_decides_on_all_that_is_random():
  task, stacks = Linear(), [make_stack(0, 2)]
  one, two, other = (take(task, ADAMW, [seed], stacks) for seed in (5, 5, 6))
  assert_same_bits(one, two)
  assert not np.allclose(one[1]['size'], other[1]['size'], rtol=1e-3)


class Recorder:
  """Logs the draws of the loss, and keeps those of `after_update`."""

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
def test_every_step_draws_anew(num_replicas):
  seeds = list(range(num_replicas))
  stack = np.zeros((5, 1), np.float32)
  _, metrics = take(Recorder(), ADAMW, seeds, [stack])
  # The losses of five steps draw, and `after_update` of the first four.
  drawn = np.concatenate([metrics['drawn'], metrics['drew'][1:]])
  assert len(np.unique(drawn)) == drawn.size == 9 * num_replicas
  steps = metrics['step'].reshape(5, -1)
  np.testing.assert_array_equal(steps[1:, 0], np.arange(4))
  # The norm before it is clipped to 1.
  np.testing.assert_allclose(metrics['gradient_norm'], 500, rtol=1e-6)


class Two:
  """A number for each part of a step that may go wrong."""

  tables = ()

  def init(self, rng):
    return {'a': jnp.ones(2), 'b': {'c': jnp.ones(3)}}

  def loss(self, params, tables, batch, rng):
    a, c = params['a'], params['b']['c']
    # A root's derivative at zero is infinite, and its value is not.
    loss = jnp.sqrt(c * batch['root']).sum() + a.sum() + batch['more']
    return loss, {}, ()


def test_what_is_not_finite_is_named():
  task = Two()
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
    _, taken = steps(state or make(), (), stack)
    finite = np.asarray(taken.finite)
    assert finite.shape == (2, len(names))
    found = [
      [name for name, ok in zip(names, row, strict=True) if not ok]
      for row in finite
    ]
    return found if state else found[1]

  assert bad() == []
  assert bad(more=np.inf) == ['loss']
  assert bad(root=0.0) == ['gradient of b/c']
  state = make()
  state.params['b']['c'] = state.params['b']['c'].at[2].set(jnp.nan)
  rows = bad(state)
  assert rows[0] == ['parameter b/c', 'loss', 'gradient of b/c']
  # Clipping to the norm of all gradients spreads it.
  assert rows[1][:2] == ['parameter a', 'parameter b/c']


def test_each_replica_tells_what_is_finite():
  task = Two()
  optimizer = make_optimizer(ADAMW, 6)
  seeds = [0, 1]
  state = init_state(task, optimizer, seeds)
  state.params['a'] = state.params['a'].at[1, 0].set(jnp.inf)
  ones = np.ones(1, np.float32)
  _, taken = make_steps(task, optimizer, seeds)(
    state, (), {'root': ones, 'more': ones}
  )
  finite = np.asarray(taken.finite)
  assert finite.shape == (1, 2, 5)
  assert finite[0, 0].all()
  assert finite[0, 1].tolist()[:3] == [False, True, False]


def test_the_state_is_given_away():
  task, optimizer = Linear(), make_optimizer(ADAMW, 6)
  state = jax.jit(lambda: init_state(task, optimizer, [0]))()
  steps = make_steps(task, optimizer, [0])
  new, _ = steps(state, task.tables, make_stack(0, 1))
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
  assert new.step == 1
