import itertools

import numpy as np
import pytest

from tests.data.traceable import equal, make_source
from tiger_jax.data import batches
from tiger_jax.data.splits import Excerpts
from tiger_jax.interfaces import Batch


@pytest.mark.parametrize(
  ('size', 'start', 'stop'),
  [(1, 0, 40), (1, 17, 23), (1, 5, 5), (2, 0, 40), (2, 4, 9), (3, 6, 6)],
)
def test_prefetch_keeps_the_order(size, start, stop):
  stacks = list(batches.prefetch(make_source(steps_per_call=size), start, stop))
  source = make_source(steps_per_call=size)
  expected = [
    source.stack(first, min(first + size, stop))
    for first in range(start, stop, size)
  ]
  assert equal(stacks, expected)
  assert all(isinstance(stack, Excerpts) for stack in stacks)


def test_prefetch_yields_batches_that_the_host_gathers():
  source = make_source(steps_per_call=2, resident_bytes=0)
  stacks = list(batches.prefetch(source, 0, 6))
  assert equal(stacks, [source.stack(start, start + 2) for start in (0, 2, 4)])
  assert all(isinstance(stack, Batch) for stack in stacks)


def test_prefetch_can_stop_early():
  stream = batches.prefetch(make_source(), 0, 10**9)
  source = make_source()
  for step, batch in enumerate(itertools.islice(stream, 7)):
    assert equal(batch, source.stack(step, step + 1))


class Steps:
  """A source whose batches contain the number of their step."""

  def __init__(self, steps_per_call):
    self.steps_per_call = steps_per_call

  def stack(self, start, stop):
    steps = np.arange(start, stop, dtype=np.float32)
    return np.broadcast_to(steps[:, None, None], (len(steps), 2, 3))


@pytest.mark.parametrize('size', [1, 3, 50])
@pytest.mark.parametrize(('start', 'stop'), [(0, 7), (4, 10), (5, 5)])
def test_prefetched_stacks_have_the_batches_in_order(size, start, stop):
  stacks = list(batches.prefetch(Steps(size), start, stop))
  assert [len(stack) for stack in stacks[:-1]] == [size] * (len(stacks) - 1)
  steps = [int(batch[0, 0]) for stack in stacks for batch in stack]
  assert steps == list(range(start, stop))
  assert all(stack.shape[1:] == (2, 3) for stack in stacks)
