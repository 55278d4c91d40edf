"""Events at the same time, of which nobody knows which came first."""

import dataclasses

import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError


def shuffle_ties(dataset: Dataset, seed: int) -> Dataset:
  """Returns the dataset with a user's simultaneous events in random order.

  Amazon's reviews have only dates, and its files list the reviews of a day by
  item id, which decides what is the test: in some published results a model can
  learn that order.

  Raises:
    DataError: The dataset has no timestamps.
  """
  if dataset.timestamps is None:
    raise DataError(
      f'{dataset.name} has no timestamps, so nothing is known to be a tie: '
      'leave config.dataset.shuffle_ties out'
    )
  user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
  seeds = np.random.SeedSequence([seed, 0x71E5])
  rng = np.random.Generator(np.random.Philox(seeds))
  rank = rng.permutation(dataset.num_interactions)
  order = np.lexsort((rank, dataset.timestamps, user))
  return dataclasses.replace(
    dataset,
    history=dataset.history[order],
    timestamps=dataset.timestamps[order],
  )
