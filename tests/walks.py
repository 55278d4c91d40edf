"""Builds datasets from histories."""

from collections.abc import Sequence

import numpy as np

from tiger_jax.data.dataset import FIELDS, Dataset, Items


def make_dataset(
  walks: Sequence[Sequence[int]],
  num_items: int,
  unseen: Sequence[int] = (),
  **fields: tuple[str, ...],
) -> Dataset:
  """Returns a dataset. The text of a field is empty unless it is given.

  Args:
    walks: The item rows of each user, oldest first.
    num_items: The number of items.
    unseen: The rows of the unseen items.
    **fields: Maps a field to the texts of all items.
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
