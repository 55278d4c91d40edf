"""Leave-one-out: a user's last item is the test, the one before validation.

An example is a prefix of a history and the item that follows it. Examples are
three integers each; `gather` makes arrays of item rows only for a batch.
"""

from typing import NamedTuple

from jaxtyping import Int, Int32, Int64
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import UsageError
from tiger_jax.shapes import Batch


class Examples(NamedTuple):
  """Prefixes of histories, as positions in `Dataset.history`.

  Attributes:
    user: The user's row `[n]`.
    start: Position of the user's first event `[n]`.
    end: Position of the target `[n]`; the history is all between.
  """

  user: Int32[np.ndarray, ' n']
  start: Int64[np.ndarray, ' n']
  end: Int64[np.ndarray, ' n']


def split(dataset: Dataset, name: str) -> Examples:
  """Returns the examples of one split, user after user.

  Args:
    dataset: Every user has at least three events.
    name: `train` (every target but the user's last two, with at least one
      item before it), `validation` or `test`.

  Returns:
    The examples. The history of a test example ends with the validation item.

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
  return examples.end - examples.start


def gather(
  dataset: Dataset,
  examples: Examples,
  rows: Int[np.ndarray, ' b'],
  width: int,
) -> Batch:
  """Looks the items of some examples up.

  Args:
    dataset: What the examples were split from.
    examples: All of them.
    rows: Which of them.
    width: The latest `width` items of a history are kept.

  Returns:
    The batch; histories are padded to `width`.
  """
  start, end = examples.start[rows], examples.end[rows]
  lengths = np.minimum(end - start, width)[:, None]
  columns = np.arange(width)
  # Past the end of a history the index is clipped: the value is not used.
  positions = np.minimum(end[:, None] - lengths + columns, end[:, None])
  history = np.where(columns < lengths, dataset.history[positions], -1)
  return Batch(
    history=history.astype(np.int32),
    user=examples.user[rows],
    target=dataset.history[end],
  )
