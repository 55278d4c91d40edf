"""Packed batches: several short histories share one row.

First-fit decreasing (Johnson, 1973) takes the histories by decreasing length,
and puts each into the first row that has space for it. The layout of the rows
then depends only on the number of histories of each length. Every epoch has the
same layout. In each epoch, the rows are in a different order, and histories of
equal length exchange their places. All epochs therefore have the same number of
rows, so the batch of any step is found without the earlier epochs. The order is
a pseudo-random permutation, so the memory of the batches does not depend on the
number of histories.
"""

import copy
import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

from flax import struct
from jaxtyping import Array, Bool, Int, Int32, Int64
import numpy as np

from tiger_jax.data import batches, first_fit, permutations, splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch


@struct.dataclass
class PackedExcerpts:
  """The positions of the items of packed rows in a `Histories`.

  Attributes:
    position: The position of each item; -1 for padding.
    is_last: Whether an item is the last item of its history.
  """

  position: Int[Array, '*n b t'] | Int[np.ndarray, '*n b t']
  is_last: Bool[Array, '*n b t'] | Bool[np.ndarray, '*n b t']

  def gather(self, events: Any) -> Batch:
    """Returns the item rows of a packed batch. All users are -1 (unknown).

    `events` is `Histories.events`. It is a NumPy array or a JAX array, like the
    arrays of the excerpts.
    """
    xp = events.__array_namespace__()
    history = xp.where(self.position >= 0, events[self.position], -1)
    target = xp.where(self.is_last, events[self.position + 1], -1)
    return Batch(
      history=history.astype(xp.int32),
      user=xp.full(self.position.shape[:-1], -1, dtype=xp.int32),
      target=target.astype(xp.int32),
    )


class Planned(NamedTuple):
  """Batches that the host gathered, and the positions of all of their items."""

  plan: PackedExcerpts
  batch: Batch


def split_plan(stack: Any) -> tuple[Any, Any]:
  """Returns what the ledger records of a stack, and what the device gets."""
  return stack if isinstance(stack, Planned) else (stack, stack)


@runtime_checkable
class Histories(Protocol):
  """The training histories of a dataset, in one or several shards.

  A shard is a sequence of item rows. It has the histories in ascending order of
  their lengths, and each history is followed by its target. The positions of
  `PackedExcerpts` refer to all shards, one after the other.

  Attributes:
    name: The dataset, for error messages.
    counts: The number of histories of each length, from 0 to the width of a
      row, in each shard.
    events: The item rows of all shards, if the device gathers the batches from
      them. None if the host gathers them.
  """

  name: str
  counts: Int64[np.ndarray, 'shards lengths']
  events: Int32[np.ndarray, ' n'] | None

  def gather(self, excerpts: PackedExcerpts) -> Batch:
    """Returns the item rows of batches."""
    ...


class GroupedHistories:
  """The histories of a dataset in memory, as a `Histories` of one shard."""

  def __init__(
    self,
    dataset: Dataset,
    examples: Examples,
    width: int,
    *,
    resident_bytes: int | None = None,
  ):
    """Copies the item rows of the examples.

    Args:
      dataset: The histories.
      examples: The examples, none longer than `width`.
      width: The number of items in a row of a batch.
      resident_bytes: The device gathers the batches if the item rows have at
        most this size; by default `batches.RESIDENT_BYTES`.

    Raises:
      DataError: There are no examples.
    """
    batches.check_size(dataset, examples, batch_size=1)
    assert splits.history_lengths(examples).max() <= width, 'too long for a row'
    self.name = dataset.name
    counts, self._events = grouped(dataset.history, examples, width)
    self.counts = counts[None]
    is_small = batches.is_resident(self._events.nbytes, resident_bytes)
    self.events = self._events if is_small else None

  def gather(self, excerpts: PackedExcerpts) -> Batch:
    """Returns the item rows of batches."""
    return excerpts.gather(self._events)


def grouped(
  history: Int32[np.ndarray, ' interactions'], examples: Examples, width: int
) -> tuple[Int64[np.ndarray, ' lengths'], Int32[np.ndarray, ' n']]:
  """Returns the counts and the item rows of a shard with these examples."""
  lengths = splits.history_lengths(examples)
  counts = np.bincount(lengths, minlength=width + 1)
  order = np.argsort(lengths, kind='stable')
  by_length = np.split(
    np.asarray(examples.start)[order], np.cumsum(counts)[:-1]
  )
  return counts, np.concatenate([
    history[starts[:, None] + np.arange(length + 1)].ravel()
    for length, starts in enumerate(by_length)
  ])  # fmt: skip


def first_positions(
  counts: Int64[np.ndarray, 'shards lengths'],
) -> Int64[np.ndarray, 'shards lengths']:
  """Returns the position of the first history of each length in each shard."""
  sizes = counts * (np.arange(counts.shape[1]) + 1)
  return (np.cumsum(sizes) - sizes.ravel()).reshape(counts.shape)


class PackedBatches:
  """Endless shuffled batches of packed rows, all of the same width.

  A batch depends only on the constructor arguments and the step, as in
  `TrainBatches`. The batches divide an endless sequence of rows, in which one
  epoch follows another. Every epoch has every example exactly once, and a batch
  may contain the end of one epoch and the start of the next. An epoch has the
  shards in random order. The rows of a shard are consecutive, so that few
  shards are open at a time.

  Attributes:
    steps_per_call: Number of batches in a stack, see `TrainBatches`.
    steps_per_epoch: Number of whole batches in one pass over the examples.
    events: The item rows from which the device gathers the batches; None if the
      host gathers them.
    mean_targets: The mean number of targets in a row, one per history item.
  """

  def __init__(
    self,
    histories: Histories,
    batch_size: int,
    seed: int,
    steps_per_call: int = 1,
  ):
    """Plans the rows.

    Args:
      histories: The training histories.
      batch_size: The number of rows in a batch.
      seed: The seed of the order of the examples.
      steps_per_call: The number of batches in a stack.

    Raises:
      DataError: There are fewer rows than one batch holds.
    """
    self._histories = histories
    self._batch_size = batch_size
    self._seed = seed
    counts = histories.counts
    self._width = counts.shape[1] - 1
    self._first_position = first_positions(counts)
    self._layout = functools.lru_cache(maxsize=4)(
      lambda shard: first_fit.make_layout(counts[shard])
    )
    # The number of rows of each shard.
    self._num_rows = np.array([
      self._layout(shard).num_rows.sum() for shard in range(len(counts))
    ])  # fmt: skip
    self._rows_per_epoch = num_rows = int(self._num_rows.sum())
    if num_rows < batch_size:
      raise DataError(
        f'the training examples of dataset {histories.name} fill {num_rows} '
        f'rows (config.train.packed), fewer than one batch of {batch_size}: '
        f'set config.train.batch_size to {num_rows} or less, or add users with '
        'four or more events'
      )
    num_items = int((counts * np.arange(self._width + 1)).sum())
    num_positions = num_items + int(counts.sum())
    self._position_type = np.int32 if num_positions < 2**31 else np.int64
    self.steps_per_epoch = num_rows // batch_size
    self.steps_per_call = min(steps_per_call, self.steps_per_epoch)
    self.events = histories.events
    self.mean_targets = num_items / num_rows
    self._own = np.ones((batch_size, 1), bool)

  def of_rows(self, rows: Bool[np.ndarray, ' b']) -> 'PackedBatches':
    """Returns the same batches, of which the host gathers only some rows.

    Each process then reads only the rows that its devices need. The other rows
    are padding.
    """
    source = copy.copy(self)
    source._own = rows[:, None]
    return source

  def width(self, call: int) -> int:
    """Returns the number of items in a row, which is equal for all calls."""
    del call
    return self._width

  def lengths(self, call: int) -> Int[np.ndarray, ' n']:
    """Returns the lengths of the histories of a call."""
    size = self.steps_per_call
    _, length = self._plan(call * size, (call + 1) * size)
    return length[length > 0]

  def stack(self, start: int, stop: int) -> PackedExcerpts | Planned:
    """Returns the batches of the steps `[start, stop)`."""
    position, length = self._plan(start, stop)
    plan = PackedExcerpts(position, length > 0)
    if self.events is not None:
      return plan
    own = PackedExcerpts(
      np.where(self._own, position, -1), self._own & (length > 0)
    )
    return Planned(plan, self._histories.gather(own))

  def _plan(
    self, start: int, stop: int
  ) -> tuple[Int[np.ndarray, 'n b t'], Int64[np.ndarray, 'n b t']]:
    """Returns two arrays for the steps `[start, stop)`.

    The first has the position of each item, as in `PackedExcerpts`. The second
    has the length of each history at its last item, and 0 elsewhere.
    """
    first, end = start * self._batch_size, stop * self._batch_size
    parts = []
    while first < end:
      epoch, row = divmod(first, self._rows_per_epoch)
      # No shard has this number, so no other permutation has these seeds.
      shards = np.arange(len(self._num_rows))
      order = self._permute(shards, len(shards), epoch, len(shards), 0)
      after = np.cumsum(self._num_rows[order])
      place = int(np.searchsorted(after, row, side='right'))
      num = min(end - first, int(after[place]) - row)
      shard = int(order[place])
      row -= int(after[place] - self._num_rows[shard])
      parts.append(self._plan_rows(epoch, shard, np.arange(row, row + num)))
      first += num
    shape = (stop - start, self._batch_size, self._width)
    position, length = (
      np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True)
    )
    return position.astype(self._position_type), length

  def _plan_rows(
    self, epoch: int, shard: int, row: Int64[np.ndarray, ' rows']
  ) -> tuple[Int64[np.ndarray, 'rows t'], Int64[np.ndarray, 'rows t']]:
    """Does the work of `_plan` for rows of one epoch and one shard."""
    layout, counts = self._layout(shard), self._histories.counts[shard]
    # No history has 0 items, so this seed has no other use.
    row = self._permute(row, self._num_rows[shard], epoch, shard, 0)
    after = np.cumsum(layout.num_rows)
    pattern = np.searchsorted(after, row, side='right')
    row_of_pattern = (row - (after - layout.num_rows)[pattern])[:, None]
    length = layout.length[pattern]
    number = layout.first[pattern] + row_of_pattern * layout.step[pattern]
    slot_start = np.zeros_like(number)
    for n in np.unique(length[length > 0]).tolist():
      is_n = length == n
      permuted = self._permute(number[is_n], counts[n], epoch, shard, n)
      slot_start[is_n] = self._first_position[shard, n] + permuted * (n + 1)
    slot, offset = layout.slot[pattern], layout.offset[pattern]
    start = np.take_along_axis(slot_start, slot, axis=1)
    slot_length = np.take_along_axis(length, slot, axis=1)
    return (
      np.where(offset >= 0, start + offset, -1),
      np.where(offset == slot_length - 1, slot_length, 0),
    )

  def _permute(
    self, numbers: Int64[np.ndarray, ' n'], size: int | np.int64, *seeds: int
  ) -> Int64[np.ndarray, ' n']:
    return permutations.permute(numbers, int(size), self._seed, *seeds)
