"""Groups of test users: by history, popularity and memorization."""

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import (
  Examples,
  history_lengths,
  training_counts,
  transition_positions,
)


def groups(
  dataset: Dataset, examples: Examples
) -> dict[str, Bool[np.ndarray, ' n']]:
  """Returns a mask of the users in each group.

  A user is in the group `memorization` if the training data of any user contain
  the transition from the last item of the history to the target. All other
  users are in the group `generalization` (arXiv 2603.19809). Both groups are
  missing if the training histories are in shards.
  """
  target = dataset.history[examples.end]
  bought = training_counts(dataset)[target]
  length = history_lengths(examples)
  memorization: dict[str, Bool[np.ndarray, ' n']] = {}
  if dataset.training_counts is None:
    is_memorized = np.isin(
      _pairs(dataset, np.asarray(examples.end)),
      _pairs(dataset, transition_positions(dataset)),
    )
    memorization = {
      'memorization': is_memorized,
      'generalization': ~is_memorized,
    }
  return {
    'all': np.ones(len(target), bool),
    **memorization,
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
