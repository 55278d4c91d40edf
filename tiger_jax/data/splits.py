"""Leave-one-out: a user's last item is the test, the one before validation.

An example is a prefix of a history and the item that follows it. Examples are
three integers each; `gather` makes arrays of item rows only for a batch.
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
    user: The user's row `[n]`.
    start: Position of the history's first event `[n]`.
    end: Position of the target `[n]`; the history is all between.
  """

  user: Rows
  start: Rows
  end: Rows

  def at(self, rows: Any) -> 'Examples':
    """Returns some of them, by row."""
    return Examples(*(column[rows] for column in self))


def split(dataset: Dataset, name: str) -> Examples:
  """Returns the examples of one split, user after user.

  `train` has every target except the user's last two, with at least one item
  before it. The history of a `test` example ends with the `validation` item.
  Every user of the dataset has at least three events.

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
  """Returns how many items come before each target, however many."""
  return np.asarray(examples.end - examples.start)


def sequences(dataset: Dataset, max_history: int) -> Examples:
  """Returns examples whose prefixes have every training target once.

  A prefix of such an example, and the item after it, are an example of the
  split `train`. A user has one example, except that histories longer than
  `max_history` are cut from the end, and the targets after a cut have a shorter
  history. On Beauty these are 30.3% of all targets at a `max_history` of 10,
  18.0% at 20 and 5.6% at 50 (`benchmarks/windows.py`).
  """
  starts, stops = dataset.offsets[:-1], dataset.offsets[1:]
  num_targets = stops - starts - 3
  counts = -(-num_targets // max_history)
  user = np.repeat(np.arange(dataset.num_users, dtype=np.int32), counts)
  first = np.cumsum(counts) - counts
  cut = np.arange(len(user)) - first[user]
  end = stops[user] - 3 - cut * max_history
  start = np.maximum(starts[user], end - max_history)
  return Examples(user=user, start=start, end=end)


def training_positions(dataset: Dataset) -> Bool[np.ndarray, ' interactions']:
  """Returns which events are neither validation nor test."""
  kept = np.ones(dataset.num_interactions, bool)
  kept[dataset.offsets[1:] - 1] = False
  kept[dataset.offsets[1:] - 2] = False
  return kept


@struct.dataclass
class Excerpts:
  """A batch that the device looks up; histories are padded to `width` items.

  The examples are int32 `[b]` each, or `[n, b]` for n batches.
  """

  examples: Examples
  width: int = struct.field(pytree_node=False)


def gather(events: Any, examples: Examples, width: int) -> Batch:
  """Looks up the latest `width` items of examples, on the host or the device.

  `events` is `Dataset.history`; it and the examples are both arrays of NumPy or
  both of JAX. Histories are padded with -1.
  """
  xp = events.__array_namespace__()
  start, end = examples.start, examples.end
  lengths = xp.minimum(end - start, width)[:, None]
  columns = xp.arange(width)[None]
  # Past the end of a history the index is clipped: the value is not used.
  positions = xp.minimum(end[:, None] - lengths + columns, end[:, None])
  history = xp.where(columns < lengths, events[positions], -1)
  return Batch(
    history=history.astype(xp.int32),
    user=examples.user,
    target=events[end],
  )
