"""Writes the histories of a dataset as shards, without Beam."""

import numpy as np

from tiger_jax.data import splits, training_shards


def write(folder, dataset, width, num_shards=1):
  """Writes the training histories; user `u` is in shard `u % num_shards`."""
  folder.mkdir(parents=True)
  examples = splits.sequences(dataset, width)
  counts = [
    training_shards.write_shard(
      folder / training_shards.name(shard),
      dataset.history,
      examples.at(examples.user % num_shards == shard),
      width,
    )
    for shard in range(num_shards)
  ]
  training_shards.write_index(
    folder,
    np.stack(counts),
    splits.training_counts(dataset),
    dataset.items.ids,
  )
  return folder
