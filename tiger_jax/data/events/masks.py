"""Computes masks of the events that filters keep."""

from collections.abc import Collection, Sequence

from jaxtyping import Bool, Float32, Int64
import numpy as np

from tiger_jax.data.events.log import Log

Mask = Bool[np.ndarray, ' interactions']


def num_users(log: Log) -> int:
  """Returns the number of users with an event."""
  return int(np.count_nonzero(np.bincount(log.users)))


def ratings(log: Log) -> Float32[np.ndarray, ' interactions']:
  """Returns the ratings of a log that has them."""
  assert log.ratings is not None, '`apply` refuses a log without ratings'
  return log.ratings


def listed(
  ids: Sequence[str], listed_ids: Collection[str]
) -> Bool[np.ndarray, ' ids']:
  """Returns a mask of the ids that are in a list."""
  return np.fromiter((x in listed_ids for x in ids), bool, len(ids))


def _pairs(log: Log) -> Int64[np.ndarray, ' interactions']:
  """Returns a number for each event that identifies its user and item."""
  return log.users.astype(np.int64) * len(log.item_ids) + log.items


def is_not_repeat(log: Log) -> Mask:
  """Returns a mask of the events that do not exactly repeat an earlier one."""
  if log.timestamps is None:  # Without times, repeats are unknown.
    return np.ones(len(log.users), bool)
  pairs = _pairs(log)
  # The sort is stable, so the first of equal events stays first.
  order = np.lexsort((log.timestamps, pairs))
  same = np.ones(max(len(order) - 1, 0), bool)
  for column in (pairs, log.timestamps):
    sorted_column = column[order]
    same &= sorted_column[1:] == sorted_column[:-1]
  kept = np.ones(len(order), bool)
  kept[order[1:][same]] = False
  return kept


def is_only(log: Log, last: bool) -> Mask:
  """Returns a mask of the first or last event of each pair of user and item."""
  pairs = _pairs(log)
  by_time = log.order()
  order = by_time[np.argsort(pairs[by_time], kind='stable')]
  sorted_pairs = pairs[order]
  same = sorted_pairs[1:] == sorted_pairs[:-1]
  kept = np.ones(len(order), bool)
  kept[(order[:-1] if last else order[1:])[same]] = False
  return kept


def is_latest(log: Log, number: int) -> Mask:
  """Returns a mask of the latest `number` events of each user."""
  order = log.order()
  ends = np.cumsum(np.bincount(log.users, minlength=1))
  from_end = ends[log.users[order]] - np.arange(len(order))
  kept = np.empty(len(order), bool)
  kept[order] = from_end <= number
  return kept


def short(log: Log, min_user: int, min_item: int) -> tuple[Mask, Mask]:
  """Returns masks of the events to drop: by their users, and by their items."""
  masks = np.zeros((2, len(log.users)), bool)
  positions = np.arange(len(log.users))
  users, items = log.users, log.items
  num_stable = 0
  side = 0
  while num_stable < 2:
    codes, least = ((users, min_user), (items, min_item))[side]
    is_short = (np.bincount(codes, minlength=1) < least)[codes]
    if is_short.any():
      masks[side, positions[is_short]] = True
      kept = ~is_short
      positions, users, items = positions[kept], users[kept], items[kept]
      num_stable = 0
    num_stable += 1
    side = 1 - side
  return masks[0], masks[1]
