"""From events and a catalogue, as a source has them, to a `Dataset`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Int, Int64
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data.dataset import FIELDS, Dataset, Items
from tiger_jax.errors import DataError

# One event to train on, one to validate and one to test.
MIN_EVENTS = 3


class Events(NamedTuple):
  """Every user's events, oldest first.

  Attributes:
    user_ids: The source's id of each user.
    item_ids: The source's id of each item that occurs.
    history: Indices into `item_ids` of all events, user after user.
    offsets: User `u` owns `history[offsets[u]:offsets[u + 1]]`.
    timestamps: Of all events, in the source's unit.
  """

  user_ids: Sequence[str]
  item_ids: Sequence[str]
  history: Int[np.ndarray, ' interactions']
  offsets: Int64[np.ndarray, ' offsets']
  timestamps: Int64[np.ndarray, ' interactions']

  @classmethod
  def from_log(
    cls,
    users: Sequence[str],
    items: Sequence[str],
    timestamps: Int64[np.ndarray, ' interactions'],
  ) -> 'Events':
    """Sorts a log by user, in order of first appearance, and time.

    Args:
      users: The user of each event.
      items: The item of each event.
      timestamps: The time of each event; events of the same user and time
        stay in the order of the log.

    Returns:
      The same events.
    """
    # A dict numbers its keys in order of first appearance.
    user_codes = {x: code for code, x in enumerate(dict.fromkeys(users))}
    item_codes = {x: code for code, x in enumerate(dict.fromkeys(items))}
    user = np.fromiter((user_codes[x] for x in users), np.int32, len(users))
    item = np.fromiter((item_codes[x] for x in items), np.int32, len(items))
    order = np.lexsort((timestamps, user))
    lengths = np.bincount(user, minlength=len(user_codes))
    return cls(
      user_ids=tuple(user_codes),
      item_ids=tuple(item_codes),
      history=item[order],
      offsets=_offsets(lengths),
      timestamps=timestamps[order],
    )


def assemble(
  config: DatasetConfig,
  events: Events,
  catalogue: Mapping[str, Mapping[str, str]],
  events_file: str,
  items_file: str,
) -> Dataset:
  """Checks a source's content and numbers the items.

  Items are numbered in order of first appearance when users are walked one
  after the other, then those that nobody bought in the catalogue's order.

  Args:
    config: Whether short users and items without metadata are let pass.
    events: What happened.
    catalogue: Text fields by item id; absent fields count as ''.
    events_file: Where the events are from, for error messages.
    items_file: Where the catalogue is from, for error messages.

  Returns:
    The dataset, every user with at least three events.

  Raises:
    DataError: A user is too short or an item unknown and the config does not
      allow it, or no user is left.
  """
  events = _without_short_users(config, events, events_file)
  _, first = np.unique(events.history, return_index=True)
  seen = [events.item_ids[code] for code in events.history[np.sort(first)]]
  unknown = [item_id for item_id in seen if item_id not in catalogue]
  if unknown and not config.allow_missing_metadata:
    raise DataError(
      f'{events_file} names {len(unknown)} items that {items_file} does not '
      f'hold, the first {unknown[0]!r}: add them or set '
      'config.dataset.allow_missing_metadata=True'
    )
  ids = tuple(dict.fromkeys([*seen, *catalogue]))
  rows = {item_id: row for row, item_id in enumerate(ids)}
  codes = np.asarray([rows.get(x, -1) for x in events.item_ids], np.int32)
  texts = [catalogue.get(item_id, {}) for item_id in ids]
  fields = {
    name: tuple(text.get(name, '') for text in texts) for name in FIELDS
  }
  return Dataset(
    name=config.name,
    items=Items(ids=ids, fields=fields),
    user_ids=tuple(events.user_ids),
    history=codes[events.history],
    offsets=events.offsets,
    timestamps=events.timestamps,
  )


def _without_short_users(
  config: DatasetConfig, events: Events, events_file: str
) -> Events:
  lengths = np.diff(events.offsets)
  keep = lengths >= MIN_EVENTS
  users = np.flatnonzero(keep).tolist()
  short = np.flatnonzero(~keep)
  if len(short) and not config.drop_short_users:
    first = short[0]
    raise DataError(
      f'{events_file} has {len(short)} users with fewer than {MIN_EVENTS} '
      f'events, the first {events.user_ids[first]!r} with {lengths[first]}: '
      'add events or set config.dataset.drop_short_users=True'
    )
  if not users:
    raise DataError(
      f'{events_file} has no user with at least {MIN_EVENTS} events: add some'
    )
  kept = np.repeat(keep, lengths)
  return events._replace(
    user_ids=[events.user_ids[user] for user in users],
    history=events.history[kept],
    offsets=_offsets(lengths[keep]),
    timestamps=events.timestamps[kept],
  )


def _offsets(lengths: Int[np.ndarray, ' users']) -> Int64[np.ndarray, ' n']:
  return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
