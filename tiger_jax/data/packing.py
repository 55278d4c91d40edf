"""Packed batches: several short histories share one row.

First-fit decreasing (Johnson, 1973) takes the histories by decreasing length,
and puts each into the first row that has space for it. The layout of the rows
then depends only on the number of histories of each length. Every epoch has the
same layout. In each epoch, the rows are in a different order, and histories of
equal length exchange their places. All epochs therefore have the same number of
rows, so the batch of any step is found without the plans of earlier epochs.
"""

import functools
from typing import Any, NamedTuple

from flax import struct
from jaxtyping import Array, Bool, Int
import numpy as np

from tiger_jax.data import batches, splits
from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import Examples
from tiger_jax.errors import DataError
from tiger_jax.interfaces import Batch


@struct.dataclass
class PackedExcerpts:
  """Positions in `Dataset.history` of the items of packed rows.

  Attributes:
    position: The position of each item, int32; -1 for padding.
    is_last: Whether an item is the last item of its history.
  """

  position: Int[Array, '*n b t'] | Int[np.ndarray, '*n b t']
  is_last: Bool[Array, '*n b t'] | Bool[np.ndarray, '*n b t']

  def gather(self, events: Any) -> Batch:
    """Returns the item rows of a packed batch. All users are -1 (unknown).

    `events` is `Dataset.history`. It is a NumPy array or a JAX array, like the
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


class PackedBatches:
  """Endless shuffled batches of packed rows, all of the same width.

  A batch depends only on the constructor arguments and the step, as in
  `TrainBatches`. The batches divide an endless sequence of rows, in which one
  epoch follows another. Every epoch has every example exactly once, and a batch
  may contain the end of one epoch and the start of the next.

  Attributes:
    steps_per_call: Number of batches in a stack, see `TrainBatches`.
    steps_per_epoch: Number of whole batches in one pass over the examples.
    events: `Dataset.history` if the device gathers the batches, else None.
    mean_targets: The mean number of targets in a row, one per history item.
  """

  def __init__(
    self,
    dataset: Dataset,
    examples: Examples,
    batch_size: int,
    width: int,
    seed: int,
    steps_per_call: int = 1,
    *,
    resident_bytes: int = batches.RESIDENT_BYTES,
  ):
    """Plans the rows.

    Args:
      dataset: The histories.
      examples: The examples, none longer than `width`.
      batch_size: The number of rows in a batch.
      width: The number of items in a row.
      seed: The seed of the order of the examples.
      steps_per_call: The number of batches in a stack.
      resident_bytes: The device gathers the batches if `Dataset.history` has at
        most this size.

    Raises:
      DataError: There are fewer rows than one batch holds.
    """
    batches.check_size(dataset, examples, batch_size=1)
    lengths = splits.history_lengths(examples)
    assert lengths.max() <= width, 'an example is longer than a row'
    # NumPy sorts integers of up to 16 bits in linear time.
    self._lengths = lengths.astype(np.min_scalar_type(width))
    self._start = np.asarray(examples.start)
    self._history = dataset.history
    self._batch_size = batch_size
    self._width = width
    self._seed = seed
    counts = np.bincount(lengths, minlength=width + 1)
    self._layout = _make_layout(counts, width)
    self._num_rows = len(self._layout.pattern)
    if self._num_rows < batch_size:
      raise DataError(
        f'the training examples of dataset {dataset.name} fill '
        f'{self._num_rows} rows (config.train.packed), fewer than one batch of '
        f'{batch_size}: set config.train.batch_size to {self._num_rows} or '
        'less, or add users with four or more events'
      )
    self.steps_per_epoch = self._num_rows // batch_size
    self.steps_per_call = min(steps_per_call, self.steps_per_epoch)
    self.events = batches.resident_events(dataset, resident_bytes)
    self.mean_targets = float(lengths.sum() / self._num_rows)
    # Two threads may each read a stack that contains parts of two epochs.
    self._plan = functools.lru_cache(maxsize=4)(self._make_plan)

  def width(self, call: int) -> int:
    """Returns the number of items in a row, which is equal for all calls."""
    del call
    return self._width

  def lengths(self, call: int) -> Int[np.ndarray, ' n']:
    """Returns the lengths of the histories of a call."""
    size = self.steps_per_call
    _, length = self._read(call * size, (call + 1) * size)
    return length[length > 0]

  def stack(self, start: int, stop: int) -> PackedExcerpts | Batch:
    """Returns the batches of the steps `[start, stop)`."""
    position, length = self._read(start, stop)
    if self.events is not None:
      return PackedExcerpts(position.astype(np.int32), length > 0)
    return PackedExcerpts(position, length > 0).gather(self._history)

  def _read(
    self, start: int, stop: int
  ) -> tuple[Int[np.ndarray, 'n b t'], Int[np.ndarray, 'n b t']]:
    """Returns two arrays for the steps `[start, stop)`.

    The first has the position of each item, as in `PackedExcerpts`. The second
    has the length of each history at its last item, and 0 elsewhere.
    """
    first, end = start * self._batch_size, stop * self._batch_size
    parts = []
    while first < end:
      epoch, row = divmod(first, self._num_rows)
      num = min(end - first, self._num_rows - row)
      parts.append(self._read_epoch(epoch, row, row + num))
      first += num
    shape = (stop - start, self._batch_size, self._width)
    position, length = (
      np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True)
    )
    return position, length

  def _read_epoch(
    self, epoch: int, first: int, stop: int
  ) -> tuple[Int[np.ndarray, 'rows t'], Int[np.ndarray, 'rows t']]:
    """Does the work of `_read` for consecutive rows of one epoch."""
    layout, plan = self._layout, self._plan(epoch)
    row = plan.rows[first:stop]
    pattern = layout.pattern[row]
    slot, offset = layout.slot[pattern], layout.offset[pattern]
    example = plan.examples[layout.first_slot[row][:, None] + slot]
    position = np.where(offset >= 0, self._start[example] + offset, -1)
    return position, layout.length[pattern]

  def _make_plan(self, epoch: int) -> '_Plan':
    seeds = np.random.SeedSequence([self._seed, epoch])
    rng = np.random.Generator(np.random.Philox(seeds))
    order = rng.permutation(len(self._lengths))
    by_length = order[np.argsort(self._lengths[order], kind='stable')]
    examples = np.empty_like(order)
    examples[self._layout.slots_by_length] = by_length
    return _Plan(examples, rng.permutation(self._num_rows))


class _Plan(NamedTuple):
  """The example of every slot of the layout, and the order of the rows."""

  examples: Int[np.ndarray, ' slots']
  rows: Int[np.ndarray, ' rows']


class _Layout(NamedTuple):
  """The slots of all rows; a slot is a place for a history.

  Rows with equal slots have the same pattern. The slots are numbered row by
  row.

  Attributes:
    slot: The slot of each item, counted from the first slot of its row.
    offset: The number of earlier items in the slot; -1 for padding.
    length: The length of the slot at its last item, and 0 elsewhere.
    pattern: The pattern of each row.
    first_slot: The first slot of each row.
    slots_by_length: The slots in ascending order of their lengths.
  """

  slot: Int[np.ndarray, 'patterns t']
  offset: Int[np.ndarray, 'patterns t']
  length: Int[np.ndarray, 'patterns t']
  pattern: Int[np.ndarray, ' rows']
  first_slot: Int[np.ndarray, ' rows']
  slots_by_length: Int[np.ndarray, ' slots']


def _make_layout(counts: Int[np.ndarray, ' lengths'], width: int) -> _Layout:
  """Returns the layout for `counts[i]` histories of length i."""
  patterns, repeats = zip(*_first_fit_decreasing(counts, width), strict=True)
  slot, offset, length = np.zeros((3, len(patterns), width), np.int32)
  offset -= 1
  for i, lengths in enumerate(patterns):
    num = sum(lengths)
    stops = np.cumsum(lengths)
    slot[i, :num] = np.repeat(np.arange(len(lengths)), lengths)
    offset[i, :num] = np.arange(num) - np.repeat(stops - lengths, lengths)
    length[i, stops - 1] = lengths
  pattern = np.repeat(np.arange(len(patterns)), repeats)
  num_slots = np.array([len(lengths) for lengths in patterns])[pattern]
  slot_lengths = np.concatenate(
    [np.tile(x, n) for x, n in zip(patterns, repeats, strict=True)]
  )
  slot_lengths = slot_lengths.astype(np.min_scalar_type(width))
  return _Layout(
    slot=slot,
    offset=offset,
    length=length,
    pattern=pattern,
    first_slot=np.cumsum(num_slots) - num_slots,
    slots_by_length=np.argsort(slot_lengths, kind='stable'),
  )


def _first_fit_decreasing(
  counts: Int[np.ndarray, ' lengths'], width: int
) -> list[tuple[list[int], int]]:
  """Returns the lengths in each pattern, and the number of its rows.

  The first row takes the longest history, then the longest that still fits, and
  so on. While enough histories remain, the next row has the same pattern.
  """
  remaining = counts.tolist()
  longest = width
  rows = []
  while True:
    while longest and not remaining[longest]:
      longest -= 1
    if not longest:
      return rows
    space, repeat, lengths = width, remaining[longest], []
    for length in range(longest, 0, -1):
      num = min(remaining[length], space // length)
      if num:
        lengths += [length] * num
        space -= num * length
        repeat = min(repeat, remaining[length] // num)
    for length in lengths:
      remaining[length] -= repeat
    rows.append((lengths, repeat))
