"""Batches of few shapes, in an order that is a function of seed and step."""

from collections.abc import Iterator, Sequence
import threading
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Int
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples, Excerpts
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch

# A history of so many bytes lies on the device, which then looks the batches
# up itself.
_RESIDENT_BYTES = 2**30


class _Plan(NamedTuple):
  """One epoch: the examples `[calls, n, b]` and the width `[calls]` of each."""

  rows: Int[np.ndarray, 'calls n b']
  widths: Int[np.ndarray, ' calls']


class TrainBatches:
  """Endless shuffled batches, each padded to its length bucket only.

  The batch of a step depends on the arguments and the step alone, so that an
  interrupted run resumes with the same batches. A stack holds batches of one
  width for one call of the device.

  Attributes:
    steps_per_call: Batches in a stack; fewer if all examples do not fill it.
    steps_per_epoch: Batches in one pass, without an incomplete last stack.
    events: The item rows of all histories, for the look-up on the device; None
      if they are too large, and batches are looked up here.
  """

  def __init__(
    self,
    dataset: Dataset,
    examples: Examples,
    batch_size: int,
    length_buckets: Sequence[int],
    seed: int,
    steps_per_call: int = 1,
  ):
    """Groups the examples by length; `length_buckets` are ascending widths.

    Raises:
      DataError: There are fewer examples than one batch holds.
    """
    self._examples = examples
    self._history = dataset.history
    self._batch_size = batch_size
    self._widths = np.asarray(length_buckets)
    self._seed = seed
    self._bucket = _buckets(examples, self._widths)
    self._lock = threading.Lock()
    self._plans: dict[int, _Plan] = {}
    check_size(dataset, examples, batch_size)
    num_batches = len(examples.user) // batch_size
    self.steps_per_call = min(steps_per_call, num_batches)
    self._calls_per_epoch = num_batches // self.steps_per_call
    self.steps_per_epoch = self._calls_per_epoch * self.steps_per_call
    resident = dataset.history.nbytes <= _RESIDENT_BYTES
    self.events = dataset.history if resident else None

  def width(self, call: int) -> int:
    """Returns how many items the histories of a call are padded to."""
    return self._call(call)[1]

  def lengths(self, call: int) -> Int[np.ndarray, ' n']:
    """Returns the lengths of the histories of a call, without padding."""
    rows, width = self._call(call)
    examples = self._examples.at(rows.ravel())
    return np.minimum(splits.history_lengths(examples), width)

  def stack(self, start: int, stop: int) -> Excerpts | Batch:
    """Returns the batches of the steps `[start, stop)` of one call, stacked."""
    call, rest = divmod(start, self.steps_per_call)
    assert not rest, f'no stack begins at step {start}'
    rows, width = self._call(call)
    rows = rows[: stop - start]
    if self.events is not None:
      found = self._examples.at(rows)
      return Excerpts(Examples(*(x.astype(np.int32) for x in found)), width)
    batches = [
      splits.gather(self._history, self._examples.at(row), width)
      for row in rows
    ]
    return Batch(*map(np.stack, zip(*batches, strict=True)))

  def _call(self, call: int) -> tuple[Int[np.ndarray, 'n b'], int]:
    """Returns the examples and the width of a call."""
    epoch, call = divmod(call, self._calls_per_epoch)
    # Threads that read ahead straddle the border of two epochs; two plans are
    # kept so that they do not rebuild each other's.
    with self._lock:
      if epoch not in self._plans:
        while len(self._plans) > 1:
          del self._plans[next(iter(self._plans))]
        self._plans[epoch] = self._make_plan(epoch)
      plan = self._plans[epoch]
    return plan.rows[call], int(plan.widths[call])

  def _make_plan(self, epoch: int) -> _Plan:
    seeds = np.random.SeedSequence([self._seed, epoch])
    rng = np.random.Generator(np.random.Philox(seeds))
    # What does not fill a stack is left out at random, whatever its length.
    used = self.steps_per_epoch * self._batch_size
    order = rng.permutation(len(self._bucket))[:used]
    order_bucket = self._bucket[order]
    rows: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    rest = order[:0]
    stack_size = self.steps_per_call * self._batch_size
    for bucket, width in enumerate(self._widths):
      # What a shorter bucket left over comes first, so it is surely used.
      pool = np.concatenate([rest, order[order_bucket == bucket]])
      full = len(pool) // stack_size
      stacks, rest = np.split(pool, [full * stack_size])
      rows.append(stacks.reshape(full, self.steps_per_call, self._batch_size))
      widths.append(np.full(full, width))
    shuffled = rng.permutation(self._calls_per_epoch)
    return _Plan(
      np.concatenate(rows)[shuffled], np.concatenate(widths)[shuffled]
    )


def check_size(dataset: Dataset, examples: Examples, batch_size: int) -> None:
  """Raises DataError if there are fewer examples than one batch holds."""
  num_examples = len(examples.user)
  if not num_examples:
    raise DataError(
      f'dataset {dataset.name} has nothing to train on: none of its '
      f'{dataset.num_users} users has four events or more, of which the last '
      'two are held out; add events'
    )
  if num_examples < batch_size:
    raise DataError(
      f'dataset {dataset.name} has {num_examples} training examples, fewer '
      f'than one batch of {batch_size}: set config.train.batch_size to '
      f'{num_examples} or less, or add users with four events or more'
    )


def evaluation_batches(
  dataset: Dataset,
  examples: Examples,
  batch_size: int,
  length_buckets: Sequence[int],
) -> Iterator[Batch]:
  """Yields every example once, the short histories first.

  All batches of a length bucket have `batch_size` rows; the last one is filled
  up with rows of -1.
  """

  def filled_up(x: Any) -> np.ndarray:
    missing = [(0, batch_size - len(x)), *[(0, 0)] * (x.ndim - 1)]
    return np.pad(x, missing, constant_values=-1)

  buckets = _buckets(examples, np.asarray(length_buckets))
  for bucket, width in enumerate(length_buckets):
    rows = np.flatnonzero(buckets == bucket)
    for first in range(0, len(rows), batch_size):
      batch = splits.gather(
        dataset.history, examples.at(rows[first : first + batch_size]), width
      )
      yield Batch(*map(filled_up, batch))


def request_batch(
  histories: Sequence[Sequence[int]],
  length_buckets: Sequence[int],
  batch_buckets: Sequence[int],
) -> Batch:
  """Makes a batch of item rows, oldest first, that are not in a dataset.

  It is as wide as the longest history needs, and the last of `batch_buckets`,
  which are numbers of rows, is enough. Users, targets and missing rows are -1.
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


@runtime_checkable
class StackSource(Protocol):
  """Batches for every step, several of them at once."""

  steps_per_call: int

  def stack(self, start: int, stop: int) -> Any:
    """Returns the batches of the steps from `start` up to `stop`."""
    ...


def prefetch(source: StackSource, start: int, stop: int) -> Iterator[Any]:
  """Yields the stacks of the steps `[start, stop)`, read ahead on threads."""
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
