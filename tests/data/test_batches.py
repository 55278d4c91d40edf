from concurrent import futures

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from tests.data.traceable import (
  BUCKETS,
  LENGTHS,
  equal,
  make_dataset,
  make_source,
)
from tiger_jax.data import batches, splits
from tiger_jax.data.batches import TrainBatches
from tiger_jax.data.splits import Excerpts
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch


@jax.jit
def _gather(events, stack):
  """Gathers the batches of a stack one by one, as training does."""
  return jax.lax.map(
    lambda batch: splits.gather(events, batch.examples, batch.width), stack
  )


def unstack(source, stack):
  """Returns the batches of a stack, gathered on the device or on the host."""
  if isinstance(stack, Excerpts):
    assert all(x.dtype == np.int32 for x in stack.examples)
    stack = _gather(source.events, stack)
  assert isinstance(stack, Batch)
  return [Batch(*row) for row in zip(*map(np.asarray, stack), strict=True)]


def batches_of(source, num_steps):
  """Returns the batches of the first `num_steps` steps."""
  size = source.steps_per_call
  return [
    batch
    for start in range(0, num_steps, size)
    for batch in unstack(
      source, source.stack(start, min(start + size, num_steps))
    )
  ]


def smallest_bucket(length):
  return next(width for width in BUCKETS if width >= min(length, BUCKETS[-1]))


@settings(max_examples=60, deadline=None)
@given(
  lengths=st.lists(st.integers(3, 25), min_size=1, max_size=30),
  batch_size=st.integers(1, 9),
  steps_per_call=st.integers(1, 6),
  seed=st.integers(0, 2**31),
  epoch=st.integers(0, 3),
)
def test_an_epoch_has_every_example_at_most_once(
  lengths, batch_size, steps_per_call, seed, epoch
):
  """An epoch drops fewer examples than one stack holds, and repeats none."""
  dataset = make_dataset(lengths)
  examples = splits.split(dataset, 'train')
  total = len(examples.user)
  if total < batch_size:
    reason = 'fewer than one batch' if total else 'has four or more events'
    with pytest.raises(DataError, match=reason):
      TrainBatches(dataset, examples, batch_size, BUCKETS, seed, steps_per_call)
    return
  source = TrainBatches(
    dataset, examples, batch_size, BUCKETS, seed, steps_per_call
  )
  size = source.steps_per_call
  assert size == min(steps_per_call, total // batch_size)
  stack_examples = size * batch_size
  assert source.steps_per_epoch == total // stack_examples * size
  first = epoch * source.steps_per_epoch
  targets = []
  promoted = 0
  for start in range(first, first + source.steps_per_epoch, size):
    stack = source.stack(start, start + size)
    assert stack.width in BUCKETS
    assert source.width(start // size) == stack.width
    assert all(x.shape == (size, batch_size) for x in stack.examples)
    for user, begin, end in zip(*map(np.ravel, stack.examples), strict=True):
      assert begin == dataset.offsets[user]
      assert stack.width >= smallest_bucket(end - begin)
      promoted += stack.width > smallest_bucket(end - begin)
      targets.append(int(end))
  # The target identifies the example.
  assert len(set(targets)) == len(targets)
  assert set(targets) <= set(examples.end.tolist())
  assert promoted <= (len(BUCKETS) - 1) * (stack_examples - 1)


@pytest.mark.parametrize('steps_per_call', [1, 2, 3, 100])
@pytest.mark.parametrize('causal', [False, True])
def test_the_device_gathers_the_same_batches_as_the_host(
  steps_per_call, causal
):
  dataset = make_dataset(LENGTHS * 3)
  # Items repeat, so that an item does not identify its position.
  dataset.history[:] = np.random.default_rng(0).integers(
    0, 9, len(dataset.history)
  )
  examples = splits.split(dataset, 'train')
  if causal:
    examples = splits.sequences(dataset, BUCKETS[-1])

  def read(resident_bytes):
    source = TrainBatches(
      dataset, examples, 4, BUCKETS, 0, steps_per_call,
      resident_bytes=resident_bytes,
    )  # fmt: skip
    # One more step than two epochs, so that the last stack is incomplete.
    num_steps = 2 * source.steps_per_epoch + 1
    return source, batches_of(source, num_steps)

  size = dataset.history.nbytes
  source, on_device = read(size)
  assert source.events is dataset.history
  assert isinstance(source.stack(0, 1), Excerpts)
  source, on_host = read(size - 1)
  assert source.events is None
  assert isinstance(source.stack(0, 1), Batch)
  assert len(on_device) == 2 * source.steps_per_epoch + 1
  widths = {batch.history.shape[1] for batch in on_host}
  assert len(widths) > 1 or source.steps_per_call == source.steps_per_epoch
  assert equal(on_device, on_host)


@pytest.mark.parametrize('steps_per_call', [1, 2, 3])
def test_every_batch_has_whole_histories(steps_per_call):
  """Items are numbered consecutively, so a gap would be noticed."""
  dataset = make_dataset(LENGTHS)
  source = make_source(steps_per_call=steps_per_call, resident_bytes=0)
  for batch in batches_of(source, source.steps_per_epoch):
    assert all(x.dtype == np.int32 for x in batch)
    width = batch.history.shape[1]
    for history, user, target in zip(*batch, strict=True):
      first = max(dataset.offsets[user], target - width)
      expected = np.full(width, -1)
      expected[: target - first] = np.arange(first, target)
      assert history.tolist() == expected.tolist()


@pytest.mark.parametrize('steps_per_call', [1, 2])
def test_a_batch_depends_only_on_seed_and_step(steps_per_call):
  source = make_source(steps_per_call=steps_per_call)
  per_epoch = source.steps_per_epoch
  starts = range(0, 3 * per_epoch, steps_per_call)

  def read(source, starts):
    return [source.stack(start, start + steps_per_call) for start in starts]

  forward = read(source, starts)
  again = make_source(steps_per_call=steps_per_call)
  assert equal(read(again, starts[::-1])[::-1], forward)
  other = make_source(steps_per_call=steps_per_call, seed=1)
  assert not equal(read(other, starts), forward)
  calls = per_epoch // steps_per_call
  assert not equal(forward[:calls], forward[calls : 2 * calls])


def test_an_incomplete_stack_has_the_first_batches_of_the_whole_stack():
  source = make_source(steps_per_call=3)
  whole = source.stack(3, 6)
  assert len(whole.examples.user) == 3
  part = source.stack(3, 5)
  assert part.width == whole.width
  assert equal(part.examples, whole.examples.at(slice(2)))


def test_lengths_are_mixed_within_an_epoch():
  source = make_source(lengths=[30] * 20 + [5] * 60, steps_per_call=2)
  widths = [source.width(i) for i in range(source.steps_per_epoch // 2)]
  assert len(set(widths)) > 1
  assert widths != sorted(widths)


def test_a_stack_cannot_begin_inside_another():
  source = make_source(steps_per_call=2)
  with pytest.raises(AssertionError, match='step 3'):
    source.stack(3, 5)


def test_all_examples_are_dropped_equally_often():
  """The dropped examples of an epoch are random, whatever their length."""
  lengths = [5] * 12 + [9] * 6 + [25] * 2
  dataset = make_dataset(lengths)
  examples = splits.split(dataset, 'train')
  source = TrainBatches(dataset, examples, 7, BUCKETS, 0, 5)
  num_examples = len(examples.user)
  assert source.steps_per_epoch * 7 < 0.9 * num_examples
  num_epochs = 200
  num_uses = dict.fromkeys(examples.end.tolist(), 0)
  for start in range(0, num_epochs * source.steps_per_epoch, 5):
    for end in source.stack(start, start + 5).examples.end.ravel().tolist():
      num_uses[end] += 1
  share = source.steps_per_epoch * 7 / num_examples
  use_rates = np.array(list(num_uses.values())) / num_epochs
  # Five standard deviations.
  margin = 5 * np.sqrt(share * (1 - share) / num_epochs)
  assert np.abs(use_rates - share).max() < margin


def test_a_call_never_spans_two_epochs():
  """No batch is dropped if `steps_per_call` exceeds the number of batches."""
  source = make_source(steps_per_call=1000)
  num_examples = sum(length - 3 for length in LENGTHS)
  assert source.steps_per_call == source.steps_per_epoch == num_examples // 4
  stack = source.stack(0, source.steps_per_call)
  assert stack.width == BUCKETS[-1]
  targets = stack.examples.end.ravel()
  assert len(set(targets.tolist())) == num_examples // 4 * 4
  second = source.stack(source.steps_per_call, 2 * source.steps_per_call)
  assert not equal(stack, second)


def test_threads_see_the_same_batches():
  def stack(source, start):
    return source.stack(start, start + 2)

  source = make_source(steps_per_call=2)
  starts = range(0, 4 * source.steps_per_epoch, 2)
  expected = [stack(source, start) for start in starts]
  shared = make_source(steps_per_call=2)
  with futures.ThreadPoolExecutor(8) as pool:
    reversed_stacks = list(
      pool.map(lambda start: stack(shared, start), starts[::-1])
    )
  assert equal(expected, reversed_stacks[::-1])


def test_too_few_examples_raise_a_one_line_error():
  with pytest.raises(DataError) as error:
    make_source(lengths=[4, 4], batch_size=4)
  assert '\n' not in str(error.value)
  assert 'config.train.batch_size' in str(error.value)


def test_evaluation_sees_every_example_once():
  dataset = make_dataset([3, 4, 12, 7, 20, 5, 9, 3, 3, 11])
  examples = splits.split(dataset, 'test')
  targets = []
  shapes = set()
  for batch in batches.evaluation_batches(dataset, examples, 4, BUCKETS):
    shapes.add(batch.history.shape)
    is_user = batch.target >= 0
    assert (batch.history[~is_user] == -1).all()
    assert (batch.user[~is_user] == -1).all()
    targets += batch.target[is_user].tolist()
    for history, target in zip(
      batch.history[is_user], batch.target[is_user], strict=True
    ):
      # Items are numbered consecutively, so the last one is target - 1.
      assert history[history >= 0][-1] == target - 1
  assert sorted(targets) == examples.end.tolist()
  assert shapes == {(4, width) for width in BUCKETS}


def test_request_batches_are_padded_and_cut():
  batch = batches.request_batch([[7], [], [1, 2, 3]], BUCKETS, (1, 4))
  assert batch.history.tolist() == [
    [7, -1, -1, -1, -1],
    [-1, -1, -1, -1, -1],
    [1, 2, 3, -1, -1],
    [-1, -1, -1, -1, -1],
  ]
  assert batch.user.tolist() == batch.target.tolist() == [-1] * 4
  long = batches.request_batch([list(range(100))], BUCKETS, (1, 4))
  assert long.history.tolist() == [list(range(92, 100))]
  empty = batches.request_batch([[]], BUCKETS, (1, 4))
  assert empty.history.shape == (1, 2)
