"""Makes batches in which an item identifies its event."""

import jax
import numpy as np

from tiger_jax.data import splits
from tiger_jax.data.batches import TrainBatches
from tiger_jax.data.dataset import FIELDS, Dataset, Items

BUCKETS = (2, 5, 8)
LENGTHS = (3, 4, 12, 7, 20, 5, 9)


def make_dataset(lengths):
  """Returns a dataset in which every event has its own item."""
  ids = tuple(str(row) for row in range(sum(lengths)))
  return Dataset(
    name='traceable',
    items=Items(ids=ids, fields={name: ids for name in FIELDS}),
    user_ids=tuple(f'u{user}' for user in range(len(lengths))),
    history=np.arange(sum(lengths), dtype=np.int32),
    offsets=np.cumsum([0, *lengths]).astype(np.int64),
  )


def make_source(
  lengths=LENGTHS, batch_size=4, seed=0, steps_per_call=1, **options
):
  dataset = make_dataset(lengths)
  examples = splits.split(dataset, 'train')
  return TrainBatches(
    dataset, examples, batch_size, BUCKETS, seed, steps_per_call, **options
  )


def equal(left, right):
  """Returns whether two trees have the same structure, values and dtypes."""
  leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  return jax.tree.structure(left) == jax.tree.structure(right) and all(
    np.array_equal(x, y) and x.dtype == y.dtype for x, y in leaves
  )
