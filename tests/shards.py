"""Writes the histories of a dataset as shards, without Beam."""

import numpy as np

from tiger_jax.data import splits, training_shards


def write(folder, dataset, width, num_shards=1, of_user=None):
  """Writes the training histories.

  `of_user` is the shard of each user, by default the row of the user modulo the
  number of shards.
  """
  folder.mkdir(parents=True)
  if of_user is None:
    of_user = np.arange(dataset.num_users) % num_shards
  examples = splits.sequences(dataset, width)
  written = [
    training_shards.write_shard(
      folder / training_shards.name(shard),
      dataset.history,
      examples.at(of_user[examples.user] == shard),
      width,
    )
    for shard in range(num_shards)
  ]
  training_shards.write_index(
    folder,
    np.stack([counts for counts, _ in written]),
    splits.training_counts(dataset),
    dataset.items.ids,
    [digest for _, digest in written],
  )
  return folder
