"""Whose next item is found: by history, popularity, and what was seen."""

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
  """Returns the metrics of groups of the test users, and their shares.

  The lists are proven (see `ranking`), so that the metrics describe the model
  and not the number of beams.
  """
  dataset, c = trained.session.inputs.dataset, trained.session.config
  examples = sample_users(
    split(dataset, 'test'), c.evaluation.num_users, c.seed
  )
  search = Search(c.evaluation.num_beams, until_proven=True)
  ranking = rank(trained, examples, max(CUTOFFS), search)
  return {
    name: {
      'share': float(members.mean()),
      **ranking_metrics(ranking.hits[members]),
      'proven': ranking.of(members).proven,
    }
    for name, members in groups(dataset, examples).items()
  }


def groups(
  dataset: Dataset, examples: Examples
) -> dict[str, Bool[np.ndarray, ' n']]:
  """Returns which users are in which group.

  A target is memorisation where some user bought it right after the same item
  in training, else generalisation (arXiv 2603.19809).
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
  pairs = _pairs(dataset, after)
  known = np.isin(_pairs(dataset, np.asarray(examples.end)), pairs)
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


def _pairs(dataset: Dataset, positions: np.ndarray) -> np.ndarray:
  """Returns a number for each event and the one before it."""
  history = dataset.history.astype(np.int64)
  return history[positions - 1] * dataset.num_items + history[positions]
