"""Groups of test users: by history, popularity and memorization."""

from jaxtyping import Bool, Int
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import (
  Examples,
  history_lengths,
  training_positions,
)


def groups(
  dataset: Dataset, examples: Examples
) -> dict[str, Bool[np.ndarray, ' n']]:
  """Returns which users are in which group.

  A target is memorisation if some user bought it right after the same item in
  training, else generalisation (arXiv 2603.19809).
  """
  training = training_positions(dataset)
  target = dataset.history[examples.end]
  times = np.bincount(dataset.history[training], minlength=dataset.num_items)
  bought = times[target]
  length = history_lengths(examples)

  following = np.zeros(dataset.num_interactions, bool)
  following[1:] = training[1:] & training[:-1]
  following[dataset.offsets[:-1]] = False
  after = np.flatnonzero(following)
  known = np.isin(
    _pairs(dataset, np.asarray(examples.end)), _pairs(dataset, after)
  )
  return {
    'all': np.ones(len(target), bool),
    'memorisation': known,
    'generalisation': ~known,
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
  """Returns a number for each event and the one before it."""
  history = dataset.history.astype(np.int64)
  return history[positions - 1] * dataset.num_items + history[positions]
