"""Events at the same time, of which nobody knows which came first."""

import dataclasses

import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError


def shuffle_ties(dataset: Dataset, seed: int) -> Dataset:
  """Returns the dataset with a user's events of one time in random order.

  The days of Amazon's reviews have many such events, and its files list them by
  item id, which decides what is the test: in some published results a model
  can learn that order.

  Args:
    dataset: With timestamps.
    seed: Of the order.

  Raises:
    DataError: There are no timestamps.
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
