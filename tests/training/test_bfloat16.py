"""Tests of resumed runs and of equivalent forward passes in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.networks import make_batch, make_stack, make_task
from tests.training.running import Run, assert_same_bits
from tiger_jax.interfaces import Batch

pytestmark = pytest.mark.as_users


def read(start, stop):
  """Yields the batches of some steps, one by one."""
  for step in range(start, stop):
    yield make_stack(step, step + 1)


def test_a_resumed_run_has_the_parameters_of_an_uninterrupted_run(tmp_path):
  task = make_task(dtype='bfloat16')
  expected = Run(tmp_path / 'whole')(task, read, num_steps=4)
  run = Run(tmp_path / 'resumed', save_every=2)

  def broken(start, stop):
    yield from read(start, 3)
    raise RuntimeError('stopped')

  with pytest.raises(RuntimeError, match='stopped'):
    run(task, broken, num_steps=4)
  assert run.saved() == [2]
  assert_same_bits(run(task, read, num_steps=4), expected)


def test_forward_passes_agree_up_to_rounding():
  """Compares the logits of a batch with those of three other passes.

  The passes get a batch with more padding, only the first row, and all prefixes
  of the histories at once.
  """
  task = make_task(dtype='bfloat16', causal_encoder=True, num_user_tokens=0)
  codes = task.tables.codes
  batch = make_batch(0, 8)
  wide = np.pad(batch.history, ((0, 0), (0, 3)), constant_values=-1)
  last = (batch.history >= 0).sum(1) - 1

  @jax.jit
  def passes(rng):
    bound = task.model.bind({'params': task.init(rng)})
    every = bound.every_target(codes, batch)
    return (
      bound(codes, batch),
      bound(codes, batch._replace(history=wide)),
      bound(codes, Batch(*(x[:1] for x in batch))),
      [x[jnp.arange(8), last] for x in every],
    )

  for logits, padded, alone, every in zip(
    *passes(jax.random.key(0)), strict=True
  ):
    assert np.ptp(logits) > 1
    np.testing.assert_allclose(padded, logits, atol=0.05)
    np.testing.assert_allclose(alone, logits[:1], atol=0.05)
    np.testing.assert_allclose(every, logits, atol=0.05)
