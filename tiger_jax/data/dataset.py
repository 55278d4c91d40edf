"""The dataset that all later stages read: items, users and their events."""

import dataclasses
import functools
import io
from pathlib import Path
from typing import Any

from jaxtyping import Int32, Int64
import numpy as np

from tiger_jax.data import counts
from tiger_jax.storage import files, texts
from tiger_jax.storage.arrays import read_arrays

FIELDS = ('title', 'price', 'brand', 'categories', 'description')
# A validation item, a test item, and at least one earlier item.
MIN_EVENTS = 3
# The name of the column of ids in `items.parquet`.
_ID = 'item'
# Enough for the text of a hundred million items.
_MAX_TEXT_BYTES = 2**35


@dataclasses.dataclass(frozen=True, eq=False)
class Items:
  """The catalog. The row of an item is its position in the catalog.

  Attributes:
    ids: The id of each item in the source.
    fields: Maps the names in `FIELDS`, and the further columns that
      `config.embedding.template` uses, to the texts of all items. A missing
      text is ''. The
      text of `categories` looks like `A > B > C; A > D`.
  """

  ids: tuple[str, ...]
  fields: dict[str, tuple[str, ...]]

  def __len__(self) -> int:
    """Returns the number of items."""
    return len(self.ids)

  @functools.cached_property
  def rows(self) -> dict[str, int]:
    """The row of each item id."""
    return {item_id: row for row, item_id in enumerate(self.ids)}

  def title(self, row: int) -> str:
    """Returns the title of an item, or its id if it has no title."""
    return self.fields['title'][row] or self.ids[row]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A catalog and the history of every user.

  Attributes:
    name: The value of `config.dataset.name`.
    items: The catalog.
    user_ids: The id of each user in the source.
    history: The item rows of all events, grouped by user and sorted by time.
    offsets: `history[offsets[u]:offsets[u + 1]]` is the history of user `u`.
    timestamps: The time of each event in the unit of the source (seconds since
      1970 for Amazon), or None if the source has no times.
    unseen: The rows of the items that occur only as test targets, see
      `DatasetConfig.unseen_share`.
    training_counts: The number of training events of each item, if the training
      histories are in shards (see `training_shards`). `history` then has only a
      sample of the users, for validation and test. None if `history` has all
      users.
    counts: The numbers of events, users and items that were read and used, see
      `data.counts`. The dict is empty after `load`.
  """

  name: str
  items: Items
  user_ids: tuple[str, ...]
  history: Int32[np.ndarray, ' interactions']
  offsets: Int64[np.ndarray, ' offsets']
  timestamps: Int64[np.ndarray, ' interactions'] | None = None
  unseen: Int32[np.ndarray, ' unseen'] = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  training_counts: Int64[np.ndarray, ' items'] | None = None
  counts: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def num_users(self) -> int:
    """The number of users."""
    return len(self.user_ids)

  @property
  def num_items(self) -> int:
    """The number of items in the catalog, bought or not."""
    return len(self.items)

  @property
  def num_interactions(self) -> int:
    """The number of events of all users."""
    return len(self.history)

  def history_of(self, user: int) -> Int32[np.ndarray, ' events']:
    """Returns a user's item rows, oldest first."""
    return self.history[self.offsets[user] : self.offsets[user + 1]]

  def save(self, folder: Path) -> None:
    """Writes the dataset to a folder, which is created if it is missing.

    `items.parquet` has the texts of the items, and `users.parquet` has the ids
    of the users.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / 'dataset.json', {'name': self.name})
    columns = {_ID: self.items.ids, **self.items.fields}
    texts.write(folder / 'items.parquet', columns)
    texts.write(folder / 'users.parquet', {'user': self.user_ids})
    arrays = {
      'history': self.history,
      'offsets': self.offsets,
      'unseen': self.unseen,
    }
    for name in ('timestamps', 'training_counts'):
      if (array := getattr(self, name)) is not None:
        arrays[name] = array
    content = io.BytesIO()
    np.savez(content, **arrays)
    files.write(folder / 'histories.npz', content.getvalue())
    counts.write(self.counts, folder)

  @classmethod
  def load(cls, folder: Path) -> 'Dataset':
    """Reads a dataset that `save` wrote, in this or an earlier version.

    Raises:
      DataError: A file is missing or damaged.
    """
    with files.explained(
      f'the dataset in {folder} is missing or damaged',
      'delete the folder and prepare it again',
    ):
      text = files.read_json(folder / 'dataset.json', _MAX_TEXT_BYTES)
      if 'item_ids' in text:  # Earlier versions wrote all text to this file.
        ids, users = _texts(text['item_ids']), _texts(text['user_ids'])
        fields = {name: _texts(text['fields'][name]) for name in FIELDS}
      else:
        fields = texts.read(folder / 'items.parquet')
        ids = fields.pop(_ID)
        users = texts.read(folder / 'users.parquet')['user']
      arrays = read_arrays(folder / 'histories.npz')
      dataset = cls(
        name=text['name'],
        items=Items(ids=ids, fields=fields),
        user_ids=users,
        history=arrays['history'],
        offsets=arrays['offsets'],
        timestamps=arrays.get('timestamps'),
        unseen=arrays.get('unseen', np.zeros(0, np.int32)),
        training_counts=arrays.get('training_counts'),
      )
      dataset._check()
    return dataset

  def _check(self) -> None:
    """Raises ValueError if parts are invalid or contradict each other."""
    if not isinstance(self.name, str):
      raise ValueError('the name is not text')
    for ids in (self.items.ids, self.user_ids):
      if len(set(ids)) < len(ids):
        raise ValueError('an id occurs twice')
    dtypes = [(self.history, np.int32), (self.offsets, np.int64)]
    dtypes.append((self.unseen, np.int32))
    for array in (self.timestamps, self.training_counts):
      if array is not None:
        dtypes.append((array, np.int64))
    if any(array.dtype != dtype or array.ndim != 1 for array, dtype in dtypes):
      raise ValueError('wrong array types')
    fields = self.items.fields
    if not fields.keys() >= set(FIELDS):
      raise ValueError('a text column is missing')
    if any(len(x) != self.num_items for x in fields.values()):
      raise ValueError('a text column does not have one entry for each item')
    if len(self.offsets) != self.num_users + 1 or (
      self.offsets[0] != 0
      or self.offsets[-1] != len(self.history)
      or (np.diff(self.offsets) < MIN_EVENTS).any()
    ):
      raise ValueError('the offsets do not match the histories')
    if self.timestamps is not None and (
      self.timestamps.shape != self.history.shape
    ):
      raise ValueError('the events and the timestamps differ in number')
    counts = self.training_counts
    if counts is not None and (
      len(counts) != self.num_items or counts.min() < 0
    ):
      raise ValueError('the training counts do not match the items')
    for rows in (self.history, self.unseen):
      if not ((rows >= 0) & (rows < self.num_items)).all():
        raise ValueError('an item row is out of range')


def _texts(column: Any) -> tuple[str, ...]:
  if not isinstance(column, list) or not all(
    isinstance(text, str) for text in column
  ):
    raise ValueError('an id or a field of an item is not text')
  return tuple(column)
