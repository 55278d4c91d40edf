"""Groups of test users: by history, popularity and memorization."""

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import (
  Examples,
  history_lengths,
  training_positions,
  transition_positions,
)


def groups(
  dataset: Dataset, examples: Examples
) -> dict[str, Bool[np.ndarray, ' n']]:
  """Returns a mask of the users in each group.

  A user is in the group `memorization` if the training data of any user contain
  the transition from the last item of the history to the target. All other
  users are in the group `generalization` (arXiv 2603.19809).
  """
  target = dataset.history[examples.end]
  training_items = dataset.history[training_positions(dataset)]
  counts = np.bincount(training_items, minlength=dataset.num_items)
  bought = counts[target]
  length = history_lengths(examples)
  is_memorized = np.isin(
    _pairs(dataset, np.asarray(examples.end)),
    _pairs(dataset, transition_positions(dataset)),
  )
  return {
    'all': np.ones(len(target), bool),
    'memorization': is_memorized,
    'generalization': ~is_memorized,
    'history of up to 5': length <= 5,
    'history of 6 to 10': (length > 5) & (length <= 10),
    'history of over 10': length > 10,
    'bought up to 5 times': bought <= 5,
    'bought 6 to 20 times': (bought > 5) & (bought <= 20),
    'bought over 20 times': bought > 20,
  }


def _pairs(
  dataset: Dataset, positions: Int[np.ndarray, ' n']
) -> Int[np.ndarray, ' n']:
  """Encodes the item of each event and the item before it as one number."""
  history = dataset.history.astype(np.int64)
  return history[positions - 1] * dataset.num_items + history[positions]
