from concurrent import futures
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from tiger_jax.data import batches, splits
from tiger_jax.data.batches import TrainBatches
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import DataError

BUCKETS = (2, 5, 8)


def make_dataset(lengths):
  """A shop where every event is of an item of its own, so it can be traced."""
  ids = tuple(str(row) for row in range(sum(lengths)))
  return Dataset(
    name='traceable',
    items=Items(ids=ids, fields={name: ids for name in FIELDS}),
    user_ids=tuple(f'u{user}' for user in range(len(lengths))),
    history=np.arange(sum(lengths), dtype=np.int32),
    offsets=np.cumsum([0, *lengths]).astype(np.int64),
  )


def make_source(lengths=(3, 4, 12, 7, 20, 5, 9), batch_size=4, seed=0):
  dataset = make_dataset(lengths)
  examples = splits.split(dataset, 'train')
  return TrainBatches(dataset, examples, batch_size, BUCKETS, seed)


def smallest_bucket(length):
  return next(width for width in BUCKETS if width >= min(length, BUCKETS[-1]))


def equal(left, right):
  return all(
    np.array_equal(x, y) and x.dtype == y.dtype
    for x, y in zip(left, right, strict=True)
  )


@settings(max_examples=60, deadline=None)
@given(
  lengths=st.lists(st.integers(3, 25), min_size=1, max_size=30),
  batch_size=st.integers(1, 9),
  seed=st.integers(0, 2**31),
  epoch=st.integers(0, 3),
)
def test_an_epoch_is_a_permutation(lengths, batch_size, seed, epoch):
  dataset = make_dataset(lengths)
  examples = splits.split(dataset, 'train')
  total = len(examples.user)
  if total < batch_size:
    with pytest.raises(DataError, match='fewer than one batch'):
      TrainBatches(dataset, examples, batch_size, BUCKETS, seed)
    return
  source = TrainBatches(dataset, examples, batch_size, BUCKETS, seed)
  assert source.steps_per_epoch == total // batch_size
  first = epoch * source.steps_per_epoch
  targets = []
  promoted = 0
  for step in range(first, first + source.steps_per_epoch):
    batch = source[step]
    width = batch.history.shape[1]
    assert batch.history.shape == (batch_size, width)
    assert width in BUCKETS
    for history, user, target in zip(*batch, strict=True):
      length = target - dataset.offsets[user]
      assert (history >= 0).sum() == min(length, width)
      assert width >= smallest_bucket(length)
      promoted += width > smallest_bucket(length)
    targets += batch.target.tolist()
  # Every event is an item of its own: the target names the example.
  assert len(set(targets)) == len(targets)
  assert set(targets) <= set(examples.end.tolist())
  assert promoted <= (len(BUCKETS) - 1) * (batch_size - 1)


def test_a_batch_is_a_function_of_seed_and_step():
  source = make_source()
  steps = list(range(3 * source.steps_per_epoch))
  forward = [source[step] for step in steps]
  again = make_source()
  backward = [again[step] for step in reversed(steps)][::-1]
  assert all(map(equal, forward, backward))
  other = make_source(seed=1)
  assert not all(equal(batch, other[i]) for i, batch in enumerate(forward))
  per_epoch = source.steps_per_epoch
  assert not all(map(equal, forward[:per_epoch], forward[per_epoch:]))


def test_lengths_are_mixed_within_an_epoch():
  source = make_source(lengths=[30] * 20 + [5] * 60)
  widths = [source[i].history.shape[1] for i in range(source.steps_per_epoch)]
  assert widths != sorted(widths)


def test_threads_see_the_same_batches():
  source = make_source()
  steps = list(range(4 * source.steps_per_epoch))
  expected = [source[step] for step in steps]
  shared = make_source()
  with futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(shared.__getitem__, steps[::-1]))[::-1]
  assert all(map(equal, expected, found))


def test_too_few_examples_is_one_line():
  with pytest.raises(DataError) as error:
    make_source(lengths=[4, 4], batch_size=4)
  assert '\n' not in str(error.value)
  assert 'config.train.batch_size' in str(error.value)


@pytest.mark.parametrize(('start', 'stop'), [(0, 40), (17, 23), (5, 5)])
def test_prefetch_keeps_the_order(start, stop):
  found = list(batches.prefetch(make_source(), start, stop))
  source = make_source()
  expected = [source[step] for step in range(start, stop)]
  assert len(found) == len(expected)
  assert all(map(equal, found, expected))
  assert all(type(batch).__name__ == 'Batch' for batch in found)


def test_prefetch_may_be_left_early():
  stream = batches.prefetch(make_source(), 0, 10**9)
  source = make_source()
  for step, batch in enumerate(itertools.islice(stream, 7)):
    assert equal(batch, source[step])


class Steps:
  """Batches that hold their step."""

  def stack(self, start, stop):
    steps = np.arange(start, stop, dtype=np.float32)
    return np.broadcast_to(steps[:, None, None], (len(steps), 2, 3))


@pytest.mark.parametrize('size', [1, 3, 50])
@pytest.mark.parametrize(('start', 'stop'), [(0, 7), (4, 10), (5, 5)])
def test_prefetched_stacks_hold_the_batches_in_order(size, start, stop):
  found = list(batches.prefetch_stacks(Steps(), size, start, stop))
  assert [len(stack) for stack in found[:-1]] == [size] * (len(found) - 1)
  steps = [int(batch[0, 0]) for stack in found for batch in stack]
  assert steps == list(range(start, stop))
  assert all(stack.shape[1:] == (2, 3) for stack in found)


def test_evaluation_sees_every_example_once():
  dataset = make_dataset([3, 4, 12, 7, 20, 5, 9, 3, 3, 11])
  examples = splits.split(dataset, 'test')
  found = []
  shapes = set()
  for batch in batches.evaluation_batches(dataset, examples, 4, BUCKETS):
    shapes.add(batch.history.shape)
    real = batch.target >= 0
    assert (batch.history[~real] == -1).all()
    assert (batch.user[~real] == -1).all()
    found += batch.target[real].tolist()
    for history, target in zip(
      batch.history[real], batch.target[real], strict=True
    ):
      # Items are numbered through, so a history ends just before its target.
      assert history[history >= 0][-1] == target - 1
  assert sorted(found) == examples.end.tolist()
  assert shapes == {(4, width) for width in BUCKETS}


def test_request_batch():
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
