"""Packed rows, compared with the histories of the dataset."""

from concurrent import futures

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from tests.data.traceable import equal, make_dataset
from tiger_jax.data import splits
from tiger_jax.data.packing import (
  GroupedHistories,
  PackedBatches,
  PackedExcerpts,
  Planned,
)
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch

LENGTHS = (3, 4, 12, 7, 20, 5, 9, 4, 4, 6, 8, 5)
WIDTH = 8


def make_source(
  lengths=LENGTHS, batch_size=2, width=WIDTH, seed=0, steps_per_call=1,
  **options,
):  # fmt: skip
  dataset = make_dataset(lengths)
  examples = splits.sequences(dataset, width)
  histories = GroupedHistories(dataset, examples, width, **options)
  return PackedBatches(histories, batch_size, seed, steps_per_call)


def windows(lengths, width):
  """Returns `(start, end)` of each example."""
  examples = splits.sequences(make_dataset(lengths), width)
  return sorted(
    zip(examples.start.tolist(), examples.end.tolist(), strict=True)
  )


def rows_of(source, start, stop):
  """Returns the positions in the dataset, and which items are the last ones."""
  stack = source.stack(start, stop)
  assert isinstance(stack, PackedExcerpts)
  assert stack.position.dtype == np.int32
  assert stack.position.shape[0] == stop - start
  # Each event of the dataset has its own item, whose row is its position.
  batch = stack.gather(source.events)
  assert (batch.target[stack.is_last] == batch.history[stack.is_last] + 1).all()
  return [x.reshape(-1, x.shape[-1]) for x in (batch.history, stack.is_last)]


def histories_of(source, start, stop):
  """Returns `(start, end)` of each history in a range of steps, row by row."""
  histories = []
  for position, is_last in zip(*rows_of(source, start, stop), strict=True):
    history = []
    for x, last in zip(position.tolist(), is_last.tolist(), strict=True):
      if x < 0:
        assert not history and not last
        continue
      history.append(x)
      if last:
        assert history == list(range(history[0], x + 1))
        histories.append((history[0], x + 1))
        history = []
    assert not history
    # Padding comes last.
    assert (np.diff((position >= 0).astype(int)) <= 0).all()
    assert position[0] >= 0
  return histories


def slow_first_fit(lengths, width):
  """Returns the lengths in each row, by first-fit decreasing."""
  rows = []
  for length in sorted(lengths, reverse=True):
    for row in rows:
      if sum(row) + length <= width:
        row.append(length)
        break
    else:
      rows.append([length])
  return rows


@settings(max_examples=60, deadline=None)
@given(
  lengths=st.lists(st.integers(4, 25), min_size=1, max_size=30),
  width=st.integers(1, 12),
  seed=st.integers(0, 2**31),
  epoch=st.integers(0, 3),
)
def test_every_epoch_has_every_example_once(lengths, width, seed, epoch):
  source = make_source(lengths, 1, width, seed)
  num_rows = source.steps_per_epoch
  first = epoch * num_rows
  histories = histories_of(source, first, first + num_rows)
  assert sorted(histories) == windows(lengths, width)


@settings(max_examples=60, deadline=None)
@given(
  lengths=st.lists(st.integers(4, 40), min_size=1, max_size=60),
  width=st.integers(1, 12),
)
def test_rows_are_those_of_first_fit_decreasing(lengths, width):
  source = make_source(lengths, 1, width)
  position, is_last = rows_of(source, 0, source.steps_per_epoch)
  rows = [
    np.diff(np.flatnonzero(last), prepend=-1).tolist() for last in is_last
  ]
  examples = [end - start for start, end in windows(lengths, width)]
  assert sorted(rows) == sorted(slow_first_fit(examples, width))
  assert (position >= 0).sum() == sum(examples)


@pytest.mark.parametrize('batch_size', [1, 2, 3])
def test_batches_cover_consecutive_epochs(batch_size):
  """A batch may contain the end of one epoch and the start of the next."""
  source = make_source(batch_size=batch_size)
  num_rows = make_source(batch_size=1).steps_per_epoch
  assert num_rows % 2 and num_rows % 3
  # These steps contain a whole number of epochs.
  steps = 2 * num_rows
  histories = histories_of(source, 0, steps)
  per_epoch = windows(LENGTHS, WIDTH)
  epochs = [
    sorted(histories[i : i + len(per_epoch)])
    for i in range(0, len(histories), len(per_epoch))
  ]
  assert epochs == [per_epoch] * (2 * batch_size)


def test_the_gathered_items_are_those_of_the_dataset():
  """The device and the host gather equal batches, with a target per history."""
  source = make_source(steps_per_call=4)
  stack = source.stack(0, 4)
  # Items repeat, so that an item does not identify its position.
  events = source.events % 9
  on_host = stack.gather(events)
  on_device = jax.jit(lambda x, y: x.gather(y))(stack, events)
  assert equal(on_host, Batch(*map(np.asarray, on_device)))
  assert on_host.is_packed and all(x.dtype == np.int32 for x in on_host)
  assert (on_host.user == -1).all() and on_host.user.shape == (4, 2)
  history, target = on_host.history.ravel(), on_host.target.ravel()
  position, is_last = (x.ravel() for x in (stack.position, stack.is_last))
  assert 0 < is_last.sum() < (position >= 0).sum() < position.size
  for i, x in enumerate(position.tolist()):
    assert history[i] == (events[x] if x >= 0 else -1)
    assert target[i] == (events[x + 1] if is_last[i] else -1)


def test_a_large_dataset_is_gathered_on_the_host():
  size = make_source().events.nbytes
  on_device = make_source(steps_per_call=2, resident_bytes=size)
  on_host = make_source(steps_per_call=2, resident_bytes=size - 1)
  assert on_device.events is not None and on_host.events is None
  plan = on_device.stack(0, 2)
  assert equal(
    on_host.stack(0, 2), Planned(plan, plan.gather(on_device.events))
  )


def test_the_host_gathers_only_the_rows_of_a_process():
  whole = make_source(steps_per_call=2, resident_bytes=0)
  own = whole.of_rows(np.array([False, True]))
  for step in (0, 2, 4):
    expected, stack = whole.stack(step, step + 2), own.stack(step, step + 2)
    assert equal(stack.plan, expected.plan)
    for part, all_rows in zip(stack.batch, expected.batch, strict=True):
      assert (part[:, 0] == -1).all()
      assert np.array_equal(part[:, 1], all_rows[:, 1])


def test_a_batch_depends_only_on_seed_and_step():
  source = make_source(steps_per_call=2)
  starts = range(0, 6 * source.steps_per_epoch, 2)
  forward = [source.stack(start, start + 2) for start in starts]
  again = make_source(steps_per_call=2)
  backward = [again.stack(start, start + 2) for start in starts[::-1]]
  assert equal(backward[::-1], forward)
  other = make_source(steps_per_call=2, seed=1)
  assert not equal([other.stack(start, start + 2) for start in starts], forward)
  # The batches do not depend on the number of steps per call.
  single = make_source(steps_per_call=1)
  for start, stack in zip(starts, forward, strict=True):
    parts = [single.stack(start + i, start + i + 1) for i in (0, 1)]
    assert equal(jax.tree.map(lambda *x: np.concatenate(x), *parts), stack)


def test_the_rows_differ_between_epochs():
  source = make_source([4, 5, 6, 7, 8, 9] * 10, batch_size=1)
  num_rows = source.steps_per_epoch

  def rows(epoch):
    first = epoch * num_rows
    return rows_of(source, first, first + num_rows)[0].tolist()

  first, second = rows(0), rows(1)
  assert first != second
  # Fewer than half of the rows hold the same histories in both epochs.
  shared = {tuple(x) for x in first} & {tuple(x) for x in second}
  assert len(shared) < num_rows / 2


def test_batches_have_histories_of_all_lengths():
  lengths = [4, 5, 6, 7, 8, 9, 10, 11] * 100
  source = make_source(lengths, batch_size=50)
  for call in range(source.steps_per_epoch):
    assert set(source.lengths(call)) == set(range(1, 9))
    assert source.width(call) == WIDTH


def test_lengths_are_those_of_the_histories_of_a_call():
  source = make_source(steps_per_call=2)
  for call in range(5):
    histories = histories_of(source, 2 * call, 2 * call + 2)
    assert source.lengths(call).tolist() == [
      end - start for start, end in histories
    ]


@pytest.mark.parametrize('width', [10, 20, 50])
def test_almost_no_position_is_padding(width):
  """As in Beauty, most histories are short, and few are long."""
  rng = np.random.default_rng(0)
  lengths = np.minimum(4 + rng.geometric(0.25, 3000), 200).tolist()
  source = make_source(lengths, 16, width, steps_per_call=4)
  position, _ = rows_of(source, 0, source.steps_per_epoch)
  assert np.mean(position < 0) < 0.03


def test_threads_see_the_same_batches():
  source = make_source(steps_per_call=2)
  starts = range(0, 8 * source.steps_per_epoch, 2)
  expected = [source.stack(start, start + 2) for start in starts]
  shared = make_source(steps_per_call=2)
  with futures.ThreadPoolExecutor(8) as pool:
    stacks = list(pool.map(lambda x: shared.stack(x, x + 2), starts[::-1]))
  assert equal(expected, stacks[::-1])


def test_a_stack_is_at_most_one_epoch_long():
  source = make_source(steps_per_call=1000)
  assert source.steps_per_call == source.steps_per_epoch


@pytest.mark.parametrize(
  ('lengths', 'reason'),
  [
    ([4, 4, 4, 5], 'fill 1 rows .*train.packed.*train.batch_size to 1 or less'),
    ([3, 3], 'has no training examples'),
  ],
)
def test_too_few_examples_raise_a_one_line_error(lengths, reason):
  with pytest.raises(DataError, match=reason) as error:
    make_source(lengths)
  assert '\n' not in str(error.value)
