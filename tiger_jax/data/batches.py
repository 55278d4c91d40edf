"""Batches of few shapes, in an order that is a function of seed and step."""

from collections.abc import Iterator, Sequence
import threading
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import grain
from jaxtyping import Int
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples
from tiger_jax.errors import DataError
from tiger_jax.shapes import Batch

_Item = TypeVar('_Item', covariant=True)


@runtime_checkable
class BatchSource(Protocol[_Item]):
  """Anything that has a batch for every step."""

  def __getitem__(self, step: int) -> _Item:
    """Returns the batch of a step."""
    ...


class _Plan(NamedTuple):
  """One epoch: the examples `[steps, b]` and the width `[steps]` of batches."""

  rows: Int[np.ndarray, 'steps b']
  widths: Int[np.ndarray, ' steps']


class TrainBatches:
  """Endless shuffled batches, each padded to its length bucket only.

  The batch of a step depends on the arguments and the step alone, so that a
  run that was interrupted goes on with the batches it would have seen.

  Attributes:
    steps_per_epoch: Batches in one pass over the examples, which leaves out
      what does not fill a last batch.
  """

  def __init__(
    self,
    dataset: Dataset,
    examples: Examples,
    batch_size: int,
    length_buckets: Sequence[int],
    seed: int,
  ):
    """Groups the examples by length.

    Args:
      dataset: What the examples were split from.
      examples: What to draw from.
      batch_size: Examples in a batch.
      length_buckets: Widths, from short to long.
      seed: Of the order.

    Raises:
      DataError: There are fewer examples than one batch holds.
    """
    self._dataset = dataset
    self._examples = examples
    self._batch_size = batch_size
    self._widths = np.asarray(length_buckets)
    self._seed = seed
    self._bucket = _buckets(examples, self._widths)
    self._lock = threading.Lock()
    self._plans: dict[int, _Plan] = {}
    self.steps_per_epoch = len(examples.user) // batch_size
    if not self.steps_per_epoch:
      raise DataError(
        f'dataset {dataset.name} has {len(examples.user)} training examples, '
        f'fewer than one batch of {batch_size}: set config.train.batch_size '
        'lower, or add users with four events or more'
      )

  def __getitem__(self, step: int) -> Batch:
    """Returns the batch of a step, counted from 0 over all epochs."""
    epoch, index = divmod(step, self.steps_per_epoch)
    plan = self._plan(epoch)
    return splits.gather(
      self._dataset, self._examples, plan.rows[index], int(plan.widths[index])
    )

  def _plan(self, epoch: int) -> _Plan:
    # Threads that read ahead straddle the border of two epochs; two plans are
    # kept so that they do not rebuild each other's.
    with self._lock:
      if epoch not in self._plans:
        while len(self._plans) > 1:
          del self._plans[next(iter(self._plans))]
        self._plans[epoch] = self._make_plan(epoch)
      return self._plans[epoch]

  def _make_plan(self, epoch: int) -> _Plan:
    seeds = np.random.SeedSequence([self._seed, epoch])
    rng = np.random.Generator(np.random.Philox(seeds))
    order = rng.permutation(len(self._bucket))
    order_bucket = self._bucket[order]
    rows: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    rest = order[:0]
    for bucket, width in enumerate(self._widths):
      # What a shorter bucket left over comes first, so it is surely used.
      pool = np.concatenate([rest, order[order_bucket == bucket]])
      full = len(pool) // self._batch_size
      batches, rest = np.split(pool, [full * self._batch_size])
      rows.append(batches.reshape(full, self._batch_size))
      widths.append(np.full(full, width))
    shuffled = rng.permutation(self.steps_per_epoch)
    return _Plan(
      np.concatenate(rows)[shuffled], np.concatenate(widths)[shuffled]
    )


def evaluation_batches(
  dataset: Dataset,
  examples: Examples,
  batch_size: int,
  length_buckets: Sequence[int],
) -> Iterator[Batch]:
  """Yields every example once, the short histories first.

  Args:
    dataset: What the examples were split from.
    examples: What to yield.
    batch_size: Rows of every batch.
    length_buckets: Widths, from short to long.

  Yields:
    Batches of one shape per bucket; the last of a bucket is filled up with
    rows of -1.
  """
  buckets = _buckets(examples, np.asarray(length_buckets))
  for bucket, width in enumerate(length_buckets):
    rows = np.flatnonzero(buckets == bucket)
    for first in range(0, len(rows), batch_size):
      batch = splits.gather(
        dataset, examples, rows[first : first + batch_size], width
      )
      missing = batch_size - len(batch.target)
      yield Batch(
        history=np.pad(
          batch.history, ((0, missing), (0, 0)), constant_values=-1
        ),
        user=np.pad(batch.user, (0, missing), constant_values=-1),
        target=np.pad(batch.target, (0, missing), constant_values=-1),
      )


def request_batch(
  histories: Sequence[Sequence[int]],
  length_buckets: Sequence[int],
  batch_buckets: Sequence[int],
) -> Batch:
  """Makes a batch of histories that are not in a dataset.

  Args:
    histories: Item rows, oldest first; may be empty.
    length_buckets: Widths, from short to long.
    batch_buckets: Numbers of rows, from few to many; the last is enough.

  Returns:
    The batch, as wide as the longest history needs, filled up with empty
    histories; users and targets are unknown.
  """
  longest = max((len(history) for history in histories), default=0)
  width = next((x for x in length_buckets if x >= longest), length_buckets[-1])
  num_rows = next(x for x in batch_buckets if x >= len(histories))
  rows = np.full((num_rows, width), -1, np.int32)
  for row, history in zip(rows, histories, strict=False):
    latest = history[-width:]
    row[: len(latest)] = latest
  unknown = np.full(num_rows, -1, np.int32)
  return Batch(history=rows, user=unknown, target=unknown.copy())


def prefetch(
  source: BatchSource[_Item], start: int, stop: int
) -> Iterator[_Item]:
  """Reads a range of batches ahead of time, in order, on other threads.

  Args:
    source: A batch for every step.
    start: First step.
    stop: Step to stop before.

  Returns:
    `source[start]` up to `source[stop - 1]`.
  """
  return _read_ahead(_Range(source, start, stop), ahead=16)


def _read_ahead(source: Any, ahead: int) -> Iterator[Any]:
  if not len(source):
    return iter(())
  dataset = grain.MapDataset.source(source)
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=ahead)
  return iter(dataset.to_iter_dataset(options))


@runtime_checkable
class StackSource(Protocol):
  """Batches for every step, several of them at once."""

  def stack(self, start: int, stop: int) -> np.ndarray:
    """Returns the batches of the steps from `start` up to `stop`."""
    ...


def prefetch_stacks(
  source: StackSource, size: int, start: int, stop: int
) -> Iterator[np.ndarray]:
  """Like `prefetch`, but several batches at once, `[n, ...]`.

  Args:
    source: Batches for every step.
    size: Batches in a stack; the last stack has what is left.
    start: First step.
    stop: Step to stop before.
  """
  return _read_ahead(_Stacks(source, size, start, stop), ahead=2)


class _Stacks:
  """Part of an endless source, so many batches at a time."""

  def __init__(self, source: StackSource, size: int, start: int, stop: int):
    self._source = source
    self._size = size
    self._start = start
    self._stop = stop

  def __len__(self) -> int:
    return max(0, -((self._start - self._stop) // self._size))

  def __getitem__(self, index: int) -> np.ndarray:
    first = self._start + index * self._size
    return self._source.stack(first, min(first + self._size, self._stop))


class _Range:
  """Part of an endless source, as the finite one that Grain asks for."""

  def __init__(self, source: BatchSource[Any], start: int, stop: int):
    self._source = source
    self._start = start
    self._stop = stop

  def __len__(self) -> int:
    return max(0, self._stop - self._start)

  def __getitem__(self, index: int) -> Any:
    return self._source[self._start + index]


def _buckets(
  examples: Examples, widths: Int[np.ndarray, ' buckets']
) -> Int[np.ndarray, ' n']:
  """Returns the index of the smallest bucket that holds each history."""
  lengths = np.minimum(splits.history_lengths(examples), widths[-1])
  return np.searchsorted(widths, lengths)
