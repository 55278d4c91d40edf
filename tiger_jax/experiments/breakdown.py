"""Metrics by history length, item popularity and memorized transitions."""

from jaxtyping import Bool
import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.data.splits import (
  Examples,
  history_lengths,
  split,
  training_positions,
)
from tiger_jax.evaluation.metrics import CUTOFFS, ranking_metrics
from tiger_jax.evaluation.ranking import Search, Trained, rank, sample_users


def measure(trained: Trained) -> dict[str, dict[str, float]]:
  """Returns the metrics of each group of test users, and its share of them.

  The lists are proven (see `Search.until_proven`), so that the metrics do not
  depend on the number of beams.
  """
  dataset, c = trained.session.inputs.dataset, trained.session.config
  examples = sample_users(
    split(dataset, 'test'), c.evaluation.num_users, c.seed
  )
  search = Search(c.evaluation.num_beams, until_proven=True)
  ranking = rank(trained, examples, max(CUTOFFS), search)
  return {
    name: {
      'share': float(mask.mean()),
      **ranking_metrics(ranking.hits[mask]),
      'proven': ranking.select(mask).proven,
    }
    for name, mask in groups(dataset, examples).items()
  }


def groups(
  dataset: Dataset, examples: Examples
) -> dict[str, Bool[np.ndarray, ' n']]:
  """Returns a mask of the users in each group.

  A user is in the group `memorisation` if any user bought the target right
  after the same item in the training data, and else in `generalisation` (arXiv
  2603.19809).
  """
  training = training_positions(dataset)
  target = dataset.history[examples.end]
  popularity = np.bincount(
    dataset.history[training], minlength=dataset.num_items
  )
  bought = popularity[target]
  length = history_lengths(examples)

  has_previous = np.zeros(dataset.num_interactions, bool)
  has_previous[1:] = training[1:] & training[:-1]
  has_previous[dataset.offsets[:-1]] = False
  transitions = _transitions(dataset, np.flatnonzero(has_previous))
  target_transitions = _transitions(dataset, np.asarray(examples.end))
  is_memorized = np.isin(target_transitions, transitions)
  return {
    'all': np.ones(len(target), bool),
    'memorisation': is_memorized,
    'generalisation': ~is_memorized,
    'history of up to 5': length <= 5,
    'history of 6 to 10': (length > 5) & (length <= 10),
    'history of over 10': length > 10,
    'bought up to 5 times': bought <= 5,
    'bought 6 to 20 times': (bought > 5) & (bought <= 20),
    'bought over 20 times': bought > 20,
  }


def _transitions(dataset: Dataset, positions: np.ndarray) -> np.ndarray:
  """Returns one number for each pair of an event's item and the item before."""
  history = dataset.history.astype(np.int64)
  return history[positions - 1] * dataset.num_items + history[positions]
