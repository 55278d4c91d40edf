"""Items that nobody has bought before, made by taking purchases out."""

import dataclasses

import numpy as np

from tiger_jax.data import counts
from tiger_jax.data.dataset import MIN_EVENTS, Dataset
from tiger_jax.errors import DataError


def without_purchases(dataset: Dataset, share: float, seed: int) -> Dataset:
  """Returns a dataset in which some items occur only as test targets.

  The function draws a share of the items that are some user's last, and removes
  their other events. The catalogue stays the same. Users with fewer than three
  remaining events are dropped.

  Raises:
    DataError: No item is drawn, or no user remains.
  """
  last = dataset.offsets[1:] - 1
  candidates = np.unique(dataset.history[last])
  num = round(share * len(candidates))
  if not num:
    raise DataError(
      f'config.dataset.unseen_share {share} of the {len(candidates)} items of '
      f'the test of {dataset.name} is less than one: make it larger'
    )
  seeds = np.random.SeedSequence([seed, 0x0C01D])
  rng = np.random.Generator(np.random.Philox(seeds))
  unseen = np.sort(rng.permutation(candidates)[:num])
  kept = ~np.isin(dataset.history, unseen)
  kept[last] = True
  user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
  stays = np.bincount(user[kept], minlength=dataset.num_users)
  stays = stays >= MIN_EVENTS
  kept &= stays[user]
  lengths = np.bincount(user[kept], minlength=dataset.num_users)[stays]
  history = dataset.history[kept]
  # Those that nobody's test asks for any more are of no use.
  unseen = np.intersect1d(unseen, history)
  if not len(unseen):
    raise DataError(
      f'config.dataset.unseen_share {share} leaves no user of {dataset.name} '
      'with three events: make it smaller'
    )
  times = dataset.timestamps
  return dataclasses.replace(
    dataset,
    user_ids=tuple(np.asarray(dataset.user_ids, object)[stays].tolist()),
    history=history,
    offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    timestamps=None if times is None else times[kept],
    unseen=unseen.astype(np.int32),
    counts=counts.after_drop(
      dataset.counts, 'by unseen_share', int(stays.sum()), len(history)
    ),
  )
