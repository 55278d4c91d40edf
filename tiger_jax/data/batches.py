"""Batches for training, evaluation and requests, padded to a few widths."""

from collections.abc import Iterator, Sequence
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Int
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples, Excerpts
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch

# If `Dataset.history` is not larger than this, the device keeps it and gathers
# the training batches from it.
RESIDENT_BYTES = 2**30  # 1 GiB


class _Plan(NamedTuple):
  """The examples and the padded width of every stack of an epoch."""

  rows: Int[np.ndarray, 'calls n b']
  widths: Int[np.ndarray, ' calls']


class TrainBatches:
  """Endless shuffled batches, each padded to the width of its length bucket.

  A batch depends only on the constructor arguments and the step, so an
  interrupted run resumes with the same batches. Each jitted call takes one
  stack: several batches of the same width.

  Attributes:
    steps_per_call: Number of batches in a stack. It is smaller than the
      argument if the dataset has too few examples to fill such a stack.
    steps_per_epoch: Number of batches in one pass over the examples. Batches
      that do not fill a stack are dropped.
    events: `Dataset.history` if the device gathers the batches. None if
      `Dataset.history` is too large for that, so the host gathers the batches.
    mean_targets: The mean number of targets per example, for a model that
      trains on every item after the first: one target per history item.
  """

  def __init__(
    self,
    dataset: Dataset,
    examples: Examples,
    batch_size: int,
    length_buckets: Sequence[int],
    seed: int,
    steps_per_call: int = 1,
    *,
    resident_bytes: int | None = None,
  ):
    """Groups the examples by length. `length_buckets` are ascending widths.

    The device gathers the batches if `Dataset.history` has at most
    `resident_bytes`, by default `RESIDENT_BYTES`.

    Raises:
      DataError: There are fewer examples than one batch holds.
    """
    self._examples = examples
    self._history = dataset.history
    self._batch_size = batch_size
    self._widths = np.asarray(length_buckets)
    self._seed = seed
    self._bucket = _buckets(examples, self._widths)
    # Two prefetching threads may read from different epochs.
    self._plan = functools.lru_cache(maxsize=2)(self._make_plan)
    check_size(dataset, examples, batch_size)
    num_batches = len(examples.user) // batch_size
    self.steps_per_call = min(steps_per_call, num_batches)
    self._calls_per_epoch = num_batches // self.steps_per_call
    self.steps_per_epoch = self._calls_per_epoch * self.steps_per_call
    is_small = is_resident(dataset.history.nbytes, resident_bytes)
    self.events = dataset.history if is_small else None
    self.mean_targets = float(splits.history_lengths(examples).mean())

  def width(self, call: int) -> int:
    """Returns the padded length of the histories of a call."""
    return self._call(call)[1]

  def lengths(self, call: int) -> Int[np.ndarray, ' n']:
    """Returns the unpadded lengths of the histories of a call."""
    rows, width = self._call(call)
    examples = self._examples.at(rows.ravel())
    return np.minimum(splits.history_lengths(examples), width)

  def stack(self, start: int, stop: int) -> Excerpts | Batch:
    """Returns the batches of the steps `[start, stop)`, all of one call."""
    call, offset = divmod(start, self.steps_per_call)
    assert not offset, f'no stack begins at step {start}'
    rows, width = self._call(call)
    rows = rows[: stop - start]
    if self.events is not None:
      examples = self._examples.at(rows)
      return Excerpts(Examples(*(x.astype(np.int32) for x in examples)), width)
    batches = [
      splits.gather(self._history, self._examples.at(row), width)
      for row in rows
    ]
    return Batch(*map(np.stack, zip(*batches, strict=True)))

  def _call(self, call: int) -> tuple[Int[np.ndarray, 'n b'], int]:
    """Returns the examples and the width of a call."""
    epoch, call = divmod(call, self._calls_per_epoch)
    plan = self._plan(epoch)
    return plan.rows[call], int(plan.widths[call])

  def _make_plan(self, epoch: int) -> _Plan:
    seeds = np.random.SeedSequence([self._seed, epoch])
    rng = np.random.Generator(np.random.Philox(seeds))
    # The dropped examples are chosen at random, independent of their length.
    num_used = self.steps_per_epoch * self._batch_size
    order = rng.permutation(len(self._bucket))[:num_used]
    order_bucket = self._bucket[order]
    rows: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    leftover = order[:0]
    stack_size = self.steps_per_call * self._batch_size
    for bucket, width in enumerate(self._widths):
      # Examples left over from the shorter bucket come first, so that they are
      # used in this bucket.
      pool = np.concatenate([leftover, order[order_bucket == bucket]])
      num_stacks = len(pool) // stack_size
      stacks, leftover = np.split(pool, [num_stacks * stack_size])
      rows.append(
        stacks.reshape(num_stacks, self.steps_per_call, self._batch_size)
      )
      widths.append(np.full(num_stacks, width))
    shuffled = rng.permutation(self._calls_per_epoch)
    return _Plan(
      np.concatenate(rows)[shuffled], np.concatenate(widths)[shuffled]
    )


def is_resident(num_bytes: int, max_bytes: int | None) -> bool:
  """Returns whether the device keeps item rows of this size.

  `max_bytes` is the limit, by default `RESIDENT_BYTES`.
  """
  return num_bytes <= (RESIDENT_BYTES if max_bytes is None else max_bytes)


def check_size(dataset: Dataset, examples: Examples, batch_size: int) -> None:
  """Raises DataError if there are fewer examples than one batch holds."""
  num_examples = len(examples.user)
  if not num_examples:
    raise DataError(
      f'dataset {dataset.name} has no training examples: none of its '
      f'{dataset.num_users} users has four or more events, and the last two '
      'events of each user are held out; add events'
    )
  if num_examples < batch_size:
    raise DataError(
      f'dataset {dataset.name} has {num_examples} training examples, fewer '
      f'than one batch of {batch_size}: set config.train.batch_size to '
      f'{num_examples} or less, or add users with four or more events'
    )


def evaluation_batches(
  dataset: Dataset,
  examples: Examples,
  batch_size: int,
  length_buckets: Sequence[int],
) -> Iterator[Batch]:
  """Yields every example once, short histories first.

  Every batch has `batch_size` rows. The last batch of each length bucket is
  padded with rows of -1.
  """

  def pad_rows(x: Any) -> np.ndarray:
    padding = [(0, batch_size - len(x)), *[(0, 0)] * (x.ndim - 1)]
    return np.pad(x, padding, constant_values=-1)

  buckets = _buckets(examples, np.asarray(length_buckets))
  for bucket, width in enumerate(length_buckets):
    rows = np.flatnonzero(buckets == bucket)
    for first in range(0, len(rows), batch_size):
      batch = splits.gather(
        dataset.history, examples.at(rows[first : first + batch_size]), width
      )
      yield Batch(*map(pad_rows, batch))


def request_batch(
  histories: Sequence[Sequence[int]],
  length_buckets: Sequence[int],
  batch_buckets: Sequence[int],
) -> Batch:
  """Makes a batch of histories that are not in the dataset.

  In this batch, users, targets and padding are -1.

  Args:
    histories: The item rows of each history, oldest first. A history longer
      than the last width of `length_buckets` is cut to its latest items.
    length_buckets: Ascending widths. The batch gets the first width that is
      enough for the longest history.
    batch_buckets: Ascending numbers of rows. The batch gets the first number
      that is enough for all histories. The last number must be enough.
  """
  longest = max((len(history) for history in histories), default=0)
  width = next((x for x in length_buckets if x >= longest), length_buckets[-1])
  num_rows = next(x for x in batch_buckets if x >= len(histories))
  rows = np.full((num_rows, width), -1, np.int32)
  for row, history in zip(rows, histories, strict=False):
    latest = history[-width:]
    row[: len(latest)] = latest
  no_row = np.full(num_rows, -1, np.int32)
  return Batch(history=rows, user=no_row, target=no_row.copy())


@runtime_checkable
class StackSource(Protocol):
  """A source of stacked batches for every step."""

  steps_per_call: int

  def stack(self, start: int, stop: int) -> Any:
    """Returns the stacked batches of the steps `[start, stop)`."""
    ...


def prefetch(source: StackSource, start: int, stop: int) -> Iterator[Any]:
  """Yields the stacks of the steps `[start, stop)`, prefetched by threads."""
  if stop <= start:
    return iter(())
  import grain  # Imported here, because serving does not need it.

  size = source.steps_per_call
  stacks = grain.MapDataset.range(start, stop, size).map(
    lambda first: source.stack(first, min(first + size, stop))
  )
  options = grain.ReadOptions(
    num_threads=2, prefetch_buffer_size=max(2, 16 // size)
  )
  return iter(stacks.to_iter_dataset(options))


def _buckets(
  examples: Examples, widths: Int[np.ndarray, ' buckets']
) -> Int[np.ndarray, ' n']:
  """Returns the index of the smallest bucket that holds each history."""
  lengths = np.minimum(splits.history_lengths(examples), widths[-1])
  return np.searchsorted(widths, lengths)
