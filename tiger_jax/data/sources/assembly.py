"""Builds a `Dataset` from the events and the catalog of any source."""

from collections.abc import Mapping, Sequence
import hashlib
from typing import NamedTuple

from jaxtyping import Bool, Int, Int32, Int64
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, item_text
from tiger_jax.data.dataset import FIELDS, MIN_EVENTS, Dataset, Items
from tiger_jax.errors import DataError

# Part of the fingerprint of a dataset, because it determines the item rows.
ITEM_ORDER = 'sha256 of the id'
_WITH_FEW_EVENTS = f'with fewer than {MIN_EVENTS} events'


class Events(NamedTuple):
  """The events of all users, grouped by user and sorted by time.

  Attributes:
    user_ids: The id of each user in the source.
    item_ids: The id of each item that occurs in an event.
    history: The item of each event, as an index into `item_ids`.
    offsets: `history[offsets[u]:offsets[u + 1]]` is the history of user `u`.
    timestamps: The time of each event, in the unit of the source.
  """

  user_ids: Sequence[str]
  item_ids: Sequence[str]
  history: Int[np.ndarray, ' interactions']
  offsets: Int64[np.ndarray, ' offsets']
  timestamps: Int64[np.ndarray, ' interactions']

  @classmethod
  def from_log(
    cls,
    user_ids: Sequence[str],
    users: Int32[np.ndarray, ' interactions'],
    item_ids: Sequence[str],
    items: Int32[np.ndarray, ' interactions'],
    timestamps: Int64[np.ndarray, ' interactions'],
  ) -> 'Events':
    """Sorts a log by user and time, with a stable sort.

    `users` and `items` are indices into `user_ids` and `item_ids`.
    """
    order = np.lexsort((timestamps, users))
    lengths = np.bincount(users, minlength=len(user_ids))
    return cls(
      user_ids=user_ids,
      item_ids=item_ids,
      history=items[order],
      offsets=_offsets(lengths),
      timestamps=timestamps[order],
    )

  def users(self) -> Int64[np.ndarray, ' interactions']:
    """Returns the user of each event, as an index into `user_ids`."""
    return np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))

  def select(self, kept: Bool[np.ndarray, ' interactions']) -> 'Events':
    """Returns the events where `kept` is true; some users may have none."""
    lengths = np.bincount(self.users()[kept], minlength=len(self.user_ids))
    return self._replace(
      history=self.history[kept],
      offsets=_offsets(lengths),
      timestamps=self.timestamps[kept],
    )


def assemble(
  config: DatasetConfig,
  events: Events,
  catalog: Mapping[str, Mapping[str, str]],
  events_file: str,
  items_file: str,
) -> Dataset:
  """Checks a source's content and numbers the items.

  Items are sorted by a hash of their ids. If the rows followed the order of the
  events, they would leak held-out events (appendix D of the paper), because the
  row of an item determines its collision code and its order among equal scores.

  Args:
    config: The flags `keep_repeats`, `drop_short_users` and
      `allow_missing_metadata`.
    events: The events of the source.
    catalog: The text fields of items by id. A missing field counts as ''.
    events_file: The source of the events, for error messages.
    items_file: The source of the catalog, for error messages.

  Raises:
    DataError: A user has too few events, or an item of an event is not in the
      catalog, and the config does not allow this. Or the catalog has no item of
      the events, or no user remains.
  """
  num_read, num_users = len(events.history), len(events.user_ids)
  if not config.keep_repeats:
    events = events.select(_is_first_copy(events))
  repeats = num_read - len(events.history)
  events = _without_short_users(config, events, events_file, repeats)
  num_used = len(events.history)
  event_drops = {
    'exact repeats': repeats,
    f'of users {_WITH_FEW_EVENTS}': num_read - repeats - num_used,
  }
  user_drops = {_WITH_FEW_EVENTS: num_users - len(events.user_ids)}
  dataset_counts = {
    'events': counts.flow(num_read, num_used, event_drops),
    'users': counts.flow(num_users, len(events.user_ids), user_drops),
  }
  bought, first = np.unique(events.history, return_index=True)
  seen = [events.item_ids[code] for code in bought[np.argsort(first)]]
  unknown = [item_id for item_id in seen if item_id not in catalog]
  ids = tuple(sorted({*seen, *catalog}, key=_hashed))
  dataset_counts['items'] = {
    'read': len(catalog),
    'used': len(ids),
    'never_bought': len(ids) - len(seen),
  }
  if unknown:
    hint = counts.hint(unknown, catalog)
    _check_join(config, unknown, len(seen), hint, events_file, items_file)
    is_unknown = np.asarray([x not in catalog for x in events.item_ids])
    dataset_counts['missing'] = {
      'items': len(unknown),
      'of_items': len(seen),
      'events': int(is_unknown[events.history].sum()),
      'of_events': num_used,
      'first': unknown[:3],
      'hint': hint,
    }
  rows = {item_id: row for row, item_id in enumerate(ids)}
  codes = np.asarray([rows.get(x, -1) for x in events.item_ids], np.int32)
  texts = [catalog.get(item_id, {}) for item_id in ids]
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
    counts=dataset_counts,
  )


def _hashed(item_id: str) -> bytes:
  """Returns the sha256 of an id, which orders the items."""
  return hashlib.sha256(item_id.encode('utf-8', 'surrogatepass')).digest()


def _is_first_copy(events: Events) -> Bool[np.ndarray, ' interactions']:
  """Returns a mask of the events that do not exactly repeat an earlier one."""
  user, item, time = events.users(), events.history, events.timestamps
  # The sort is stable, so the earliest of equal events comes first.
  order = np.lexsort((item, time, user))
  same = np.ones(max(len(order) - 1, 0), bool)
  for column in (user, item, time):
    sorted_column = column[order]
    same &= sorted_column[1:] == sorted_column[:-1]
  kept = np.ones(len(order), bool)
  kept[order[1:][same]] = False
  return kept


def _check_join(
  config: DatasetConfig,
  unknown: list[str],
  num_bought: int,
  hint: str,
  events_file: str,
  items_file: str,
) -> None:
  """Raises DataError if too many bought items are not in the catalog."""
  because = f' ({hint})' if hint else ''
  first = counts.first_ids(unknown)
  if len(unknown) == num_bought:
    raise DataError(
      f'{items_file} has none of the {num_bought} items in {events_file}, such '
      f'as {first}{because}: use the same ids in both files'
    )
  if not config.allow_missing_metadata:
    raise DataError(
      f'{events_file} names {len(unknown)} items that are not in {items_file}, '
      f'such as {first}{because}: add them or set '
      'config.dataset.allow_missing_metadata=True'
    )


def _without_short_users(
  config: DatasetConfig, events: Events, events_file: str, repeats: int
) -> Events:
  lengths = np.diff(events.offsets)
  keep = lengths >= MIN_EVENTS
  users = np.flatnonzero(keep).tolist()
  short = np.flatnonzero(~keep)
  uncounted = f' ({repeats} exact repeats do not count)' if repeats else ''
  if not users:
    raise DataError(
      f'{events_file} has no user with at least {MIN_EVENTS} events'
      f'{uncounted}: add events, because a user needs a validation item, a '
      'test item and an earlier item'
    )
  if len(short) and not config.drop_short_users:
    first = short[0]
    raise DataError(
      f'{events_file} has {len(short)} users {_WITH_FEW_EVENTS}{uncounted}, '
      f'such as {item_text.shown(events.user_ids[first])} with '
      f'{lengths[first]}: add events or set '
      'config.dataset.drop_short_users=True'
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
