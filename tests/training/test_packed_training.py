"""Tests of interrupted and multi-device training on packed rows."""

import functools

import jax
import numpy as np
import pytest

from tests.training.networks import NUM_ITEMS, make_task
from tests.training.running import Run, assert_same_bits, measured
from tests.walks import make_dataset
from tiger_jax.config import OptimizerConfig
from tiger_jax.data import batches, splits
from tiger_jax.data.packing import GroupedHistories, PackedBatches
from tiger_jax.errors import Preempted
from tiger_jax.runtime import sharding
from tiger_jax.training.optimizer import make_optimizer
from tiger_jax.training.step import init_state, make_steps

WIDTH = 4


def make_source(steps_per_call):
  rng = np.random.default_rng(0)
  lengths = rng.integers(4, 12, 40)
  walks = [rng.integers(0, NUM_ITEMS, length).tolist() for length in lengths]
  dataset = make_dataset(walks, NUM_ITEMS)
  examples = splits.sequences(dataset, WIDTH)
  histories = GroupedHistories(dataset, examples, WIDTH)
  return PackedBatches(histories, 8, 0, steps_per_call)


@functools.cache
def task_of(source):
  return make_task(
    source.events,
    causal_encoder=True,
    num_user_tokens=0,
    recency_bias=True,
    prefix_embeddings=9,
  )


@pytest.mark.as_users
def test_an_interrupted_run_ends_with_equal_bits(tmp_path):
  """The run is interrupted in the first and in the second epoch."""
  source = make_source(steps_per_call=3)
  task = task_of(source)
  assert 3 < source.steps_per_epoch < 9
  whole = Run(tmp_path / 'whole')

  def read(start, stop):
    # Like a new process, a new source has no plans of earlier epochs.
    return batches.prefetch(make_source(steps_per_call=3), start, stop)

  expected = whole(task, read, num_steps=12)
  assert len(set(whole.ledger())) == 12
  run = Run(tmp_path / 'run')
  for at in (2, 10):
    with pytest.raises(Preempted):
      run(task, run.stopping(at, read), num_steps=12)
  assert_same_bits(run(task, read, num_steps=12), expected)
  assert run.ledger() == whole.ledger()
  assert measured(run.lines()) == measured(whole.lines())


def test_eight_devices_learn_the_same_as_one():
  source = make_source(steps_per_call=2)
  task = task_of(source)
  # Adam would amplify rounding errors of gradients near zero.
  optimizer = make_optimizer(OptimizerConfig('adagrad', 0.1), 2)
  results = []
  for num_devices in (1, 8):
    mesh = sharding.make_mesh(jax.devices()[:num_devices], fsdp=1)
    state = init_state(task, optimizer, [3])
    shardings = sharding.state_shardings(mesh, state)
    steps = make_steps(task, optimizer, [3], shardings)
    stack = sharding.shard_batch(mesh, source.stack(0, 2), axis=1)
    assert stack.position.sharding.shard_shape(stack.position.shape) == (
      2,
      8 // num_devices,
      WIDTH,
    )
    state, outputs = steps(
      sharding.put(sharding.fetch(state), shardings),
      sharding.replicate(mesh, task.tables),
      stack,
    )
    results.append((jax.device_get(state.params), outputs.metrics['loss']))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    *results,
  )
