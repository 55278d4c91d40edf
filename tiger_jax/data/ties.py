"""Shuffles events with equal timestamps, whose true order is unknown."""

import dataclasses

import numpy as np

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import DataError


def shuffle_ties(dataset: Dataset, seed: int) -> Dataset:
  """Returns the dataset with each user's simultaneous events in random order.

  Amazon's reviews have dates without a time, and the files list the reviews of
  one day by item id. The order of the ids then decides which item is the test
  target, and a model can learn this order. Some published results have this
  flaw.

  Raises:
    DataError: The dataset has no timestamps.
  """
  if dataset.timestamps is None:
    raise DataError(
      f'{dataset.name} has no timestamps, so its ties are unknown: do not set '
      'config.dataset.shuffle_ties'
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
