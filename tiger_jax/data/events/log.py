"""The content of a source: its events and the texts of its items."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float32, Int32, Int64
import numpy as np


class Log(NamedTuple):
  """The events of a source, in the order of its files.

  Attributes:
    user_ids: The distinct ids of users.
    users: The user of each event, as an index into `user_ids`.
    item_ids: The distinct ids of items.
    items: The item of each event, as an index into `item_ids`.
    timestamps: The time of each event. If it is None, the source has no times,
      and the events of a user are in the order of the files.
    ratings: The rating of each event, NaN if it has none; None if the ratings
      were not read.
  """

  user_ids: Sequence[str]
  users: Int32[np.ndarray, ' interactions']
  item_ids: Sequence[str]
  items: Int32[np.ndarray, ' interactions']
  timestamps: Int64[np.ndarray, ' interactions'] | None = None
  ratings: Float32[np.ndarray, ' interactions'] | None = None

  def select(self, kept: Bool[np.ndarray, ' interactions']) -> 'Log':
    """Returns the events where `kept` is true. The ids stay the same."""
    if kept.all():
      return self
    return self._replace(
      users=self.users[kept],
      items=self.items[kept],
      timestamps=None if self.timestamps is None else self.timestamps[kept],
      ratings=None if self.ratings is None else self.ratings[kept],
    )

  def order(self) -> Int64[np.ndarray, ' interactions']:
    """Returns the positions of the events, sorted by user and then by time.

    Events with equal times keep their order.
    """
    if self.timestamps is None:
      return np.argsort(self.users, kind='stable')
    return np.lexsort((self.timestamps, self.users))


class ItemTexts(NamedTuple):
  """The text columns of the items of a source.

  Attributes:
    ids: The id of each item; no id occurs twice.
    fields: The texts of all items by the name of the column; '' where a text is
      missing. A missing column of `dataset.FIELDS` is treated as empty.
  """

  ids: Sequence[str]
  fields: Mapping[str, Sequence[str]]
