"""Datasets of given histories."""

from collections.abc import Sequence

import numpy as np

from tiger_jax.data.dataset import FIELDS, Dataset, Items


def make_dataset(
  walks: Sequence[Sequence[int]],
  num_items: int,
  unseen: Sequence[int] = (),
  **fields: tuple[str, ...],
) -> Dataset:
  """Returns a dataset whose texts are empty, except those given.

  Args:
    walks: The item rows of each user, oldest first.
    num_items: How many items there are.
    unseen: The rows of the unseen items.
    **fields: The text of every item, by field.
  """
  empty = dict.fromkeys(FIELDS, ('',) * num_items)
  return Dataset(
    'shop',
    Items(tuple(map(str, range(num_items))), empty | fields),
    tuple(map(str, range(len(walks)))),
    np.concatenate(walks).astype(np.int32),
    np.cumsum([0, *map(len, walks)]),
    unseen=np.array(unseen, np.int32),
  )
