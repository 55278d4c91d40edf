"""Finds the items that `k_core` keeps.

Each round needs the counts of all events, and there may be dozens of rounds.
The launcher therefore counts the events itself, file by file. In memory, it
keeps a count for each item, and the events of one file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Bool, Int64
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiger_jax.beam import events

# pyarrow.compute creates its functions at import; type checkers miss them.
_compute: Any = pc


class Core(NamedTuple):
  """The remaining items and events.

  Attributes:
    kept: Whether each item remains.
    num_events: The number of remaining events of each item.
    num_users: The number of remaining users.
    by_item: The number of events that were dropped because of their item.
  """

  kept: Bool[np.ndarray, ' items']
  num_events: Int64[np.ndarray, ' items']
  num_users: int
  by_item: int


def find(
  paths: Sequence[str],
  item_ids: pa.Array,
  min_user: int,
  min_item: int,
  work: Path,
) -> Core:
  """Drops users and items with few events until no more are dropped.

  In each round, users are dropped before items, as in `filters.apply`.

  Args:
    paths: The files of events that `events.keep` wrote.
    item_ids: The ids of all items.
    min_user: The number of events that a user needs.
    min_item: The number of events that an item needs.
    work: A folder for intermediate files.
  """
  coded = [
    _coded(path, item_ids, work / f'core-{number}.npy')
    for number, path in enumerate(paths)
  ]
  kept = np.ones(len(item_ids), bool)
  by_item = 0
  while True:
    num_events = np.zeros(len(item_ids), np.int64)
    num_users = 0
    for path in coded:
      users, items = np.load(path, mmap_mode='r')
      remaining = kept[items]
      is_long = np.bincount(users[remaining], minlength=1) >= min_user
      num_users += int(is_long.sum())
      remaining[remaining] = is_long[users[remaining]]
      num_events += np.bincount(items[remaining], minlength=len(item_ids))
    few = kept & (num_events < min_item)
    kept &= ~few
    if not num_events[few].any():
      return Core(kept, num_events, num_users, by_item)
    by_item += int(num_events[few].sum())


def _coded(path: str, item_ids: pa.Array, coded: Path) -> Path:
  """Writes the events of a file as pairs of a user number and an item row."""
  table = events.read_arrow(path)
  first = table['first'].to_numpy()
  users = np.cumsum(np.diff(first, prepend=first[:1]) != 0)
  items = _compute.index_in(table['item'], value_set=item_ids)
  np.save(coded, np.stack([users, items.to_numpy()]).astype(np.int32))
  return coded
