"""Leave-one-out splits into training, validation and test examples.

A user's last item is the test target, and the item before it is the validation
target. An example is a prefix of a history and the item that follows the
prefix. Three integers represent an example; `gather` looks up the item rows of
one batch.
"""

from typing import Any, NamedTuple

from flax import struct
from jaxtyping import Array, Bool, Int, Int64
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch

Rows = Int[np.ndarray, '*n'] | Int[Array, '*n']


class Examples(NamedTuple):
  """Prefixes of histories, as positions in `Dataset.history`.

  Attributes:
    user: The rows of the users.
    start: The positions of the first events.
    end: The positions of the targets. A history ends before its target.
  """

  user: Rows
  start: Rows
  end: Rows

  def at(self, rows: Any) -> 'Examples':
    """Returns the examples at the given indices."""
    return Examples(*(column[rows] for column in self))


def split(dataset: Dataset, name: str) -> Examples:
  """Returns the examples of one split, in the order of the users.

  `train` has every event as a target, except the first and the last two of each
  user. The history of a `test` example includes the `validation` target.

  Raises:
    UsageError: There is no split of that name.
  """
  starts, stops = dataset.offsets[:-1], dataset.offsets[1:]
  if name == 'train':
    first, last = starts + 1, stops - 2
  elif name == 'validation':
    first, last = stops - 2, stops - 1
  elif name == 'test':
    first, last = stops - 1, stops
  else:
    raise UsageError(f'no split {name!r}: choose train, validation or test')
  counts = last - first
  user = np.repeat(np.arange(dataset.num_users, dtype=np.int32), counts)
  before = np.cumsum(counts) - counts
  end = np.arange(len(user)) + np.repeat(first - before, counts)
  return Examples(user=user, start=starts[user], end=end)


def history_lengths(examples: Examples) -> Int64[np.ndarray, ' n']:
  """Returns the number of all items before each target."""
  return np.asarray(examples.end - examples.start)


def sequences(dataset: Dataset, max_history: int) -> Examples:
  """Returns windows that together contain every training target once.

  Every item of a window except the first is a target, and the items before it
  in the window are its history. The last window of a user ends with the last
  training target, and every window has at most `max_history` targets. Targets
  at the start of a window have a shorter history than in the split `train`,
  unless it is the user's first window. On Beauty, 30.3% of all targets have a
  shorter history at a `max_history` of 10, 18.0% at 20 and 5.6% at 50
  (`benchmarks/windows.py`).
  """
  return windows(dataset.offsets, max_history)


def windows(
  offsets: Int64[np.ndarray, ' offsets'], max_history: int
) -> Examples:
  """Does the work of `sequences` for the histories between the offsets."""
  starts, stops = offsets[:-1], offsets[1:]
  num_targets = stops - starts - 3
  counts = -(-num_targets // max_history)
  user = np.repeat(np.arange(len(starts), dtype=np.int32), counts)
  first = np.cumsum(counts) - counts
  cut = np.arange(len(user)) - first[user]
  end = stops[user] - 3 - cut * max_history
  start = np.maximum(starts[user], end - max_history)
  return Examples(user=user, start=start, end=end)


def training_positions(dataset: Dataset) -> Bool[np.ndarray, ' interactions']:
  """Returns a mask of the events that are not validation or test targets."""
  kept = np.ones(dataset.num_interactions, bool)
  kept[dataset.offsets[1:] - 1] = False
  kept[dataset.offsets[1:] - 2] = False
  return kept


def training_counts(dataset: Dataset) -> Int64[np.ndarray, ' items']:
  """Returns the number of training events of each item."""
  if dataset.training_counts is not None:
    return dataset.training_counts
  items = dataset.history[training_positions(dataset)]
  return np.bincount(items, minlength=dataset.num_items)


def event_counts(dataset: Dataset) -> Int64[np.ndarray, ' items']:
  """Returns the number of events of each item.

  If the training histories are in shards, only training events are counted.
  """
  if dataset.training_counts is not None:
    return dataset.training_counts
  return np.bincount(dataset.history, minlength=dataset.num_items)


def transition_positions(dataset: Dataset) -> Int64[np.ndarray, ' n']:
  """Returns the positions of training events that follow a training event."""
  training = training_positions(dataset)
  follows = training.copy()
  follows[1:] &= training[:-1]
  follows[dataset.offsets[:-1]] = False
  return np.flatnonzero(follows)


@struct.dataclass
class Excerpts:
  """Examples from which the device gathers a batch of histories.

  The histories are cut or padded to `width` items.

  The arrays of the examples are int32 `[b]`, or `[n, b]` for n batches.
  """

  examples: Examples
  width: int = struct.field(pytree_node=False)

  def gather(self, events: Any) -> Batch:
    """Returns the item rows of one batch; `events` is `Dataset.history`."""
    return gather(events, self.examples, self.width)


def gather(events: Any, examples: Examples, width: int) -> Batch:
  """Returns the targets and the last `width` items of the histories as a batch.

  `events` is `Dataset.history`. `events` and `examples` are either both NumPy
  arrays or both JAX arrays. Histories are padded with -1.
  """
  xp = events.__array_namespace__()
  start, end = examples.start, examples.end
  lengths = xp.minimum(end - start, width)[:, None]
  columns = xp.arange(width)[None]
  # The positions of padding are clipped to valid ones, and their values are not
  # used.
  positions = xp.minimum(end[:, None] - lengths + columns, end[:, None])
  history = xp.where(columns < lengths, events[positions], -1)
  return Batch(
    history=history.astype(xp.int32),
    user=examples.user,
    target=events[end],
  )
