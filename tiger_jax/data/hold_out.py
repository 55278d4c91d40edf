"""Makes items unseen in training by removing their purchases."""

import dataclasses

import numpy as np

from tiger_jax.data import counts
from tiger_jax.data.dataset import MIN_EVENTS, Dataset
from tiger_jax.errors import DataError


def without_purchases(dataset: Dataset, share: float, seed: int) -> Dataset:
  """Returns a dataset in which some items occur only as test targets.

  These unseen items are drawn from the items that are the last event of a user.
  All other events with an unseen item are removed. Then users who are left with
  fewer than three events are removed. The catalog stays the same.

  Raises:
    DataError: The share is less than one item, or no user with an unseen item
      remains.
  """
  last = dataset.offsets[1:] - 1
  candidates = np.unique(dataset.history[last])
  num = round(share * len(candidates))
  if not num:
    raise DataError(
      f'config.dataset.unseen_share is {share}, which is less than one of the '
      f'{len(candidates)} test items of {dataset.name}: make it larger'
    )
  seeds = np.random.SeedSequence([seed, 0x0C01D])
  rng = np.random.Generator(np.random.Philox(seeds))
  unseen = np.sort(rng.permutation(candidates)[:num])
  kept = ~np.isin(dataset.history, unseen)
  kept[last] = True
  user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
  num_events = np.bincount(user[kept], minlength=dataset.num_users)
  is_long = num_events >= MIN_EVENTS
  kept &= is_long[user]
  history = dataset.history[kept]
  # Excludes unseen items that no remaining user has.
  unseen = np.intersect1d(unseen, history)
  if not len(unseen):
    raise DataError(
      f'config.dataset.unseen_share is {share}, which leaves no user of '
      f'{dataset.name} with an unseen item and three events: make it smaller'
    )
  times = dataset.timestamps
  return dataclasses.replace(
    dataset,
    user_ids=tuple(np.asarray(dataset.user_ids, object)[is_long].tolist()),
    history=history,
    offsets=np.concatenate([[0], np.cumsum(num_events[is_long])]).astype(
      np.int64
    ),
    timestamps=None if times is None else times[kept],
    unseen=unseen.astype(np.int32),
    counts=counts.after_drop(
      dataset.counts, 'by unseen_share', int(is_long.sum()), len(history)
    ),
  )
