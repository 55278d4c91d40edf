"""Builds a `Dataset` from the events and the catalogue of a source."""

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
_SHORT = f'with fewer than {MIN_EVENTS} events'


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
    user_ids: Sequence[str],
    users: Int32[np.ndarray, ' interactions'],
    item_ids: Sequence[str],
    items: Int32[np.ndarray, ' interactions'],
    timestamps: Int64[np.ndarray, ' interactions'],
  ) -> 'Events':
    """Sorts a log of indices into ids by user and time; the sort is stable."""
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

  def only(self, kept: Bool[np.ndarray, ' interactions']) -> 'Events':
    """Returns the selected events; some users may have none."""
    lengths = np.bincount(self.users()[kept], minlength=len(self.user_ids))
    return self._replace(
      history=self.history[kept],
      offsets=_offsets(lengths),
      timestamps=self.timestamps[kept],
    )


def assemble(
  config: DatasetConfig,
  events: Events,
  catalogue: Mapping[str, Mapping[str, str]],
  events_file: str,
  items_file: str,
) -> Dataset:
  """Checks a source's content and numbers the items.

  Items are numbered in the order of a hash of their ids. Row numbers determine
  collision codes and the order of equal scores, so numbers in the order of the
  events would leak held-out events (appendix D of the paper).

  Args:
    config: Says whether repeats are kept, and whether short users and items
      without metadata are accepted.
    events: The events of the source.
    catalogue: Text fields by item id; absent fields count as ''.
    events_file: The source of the events, for error messages.
    items_file: The source of the catalogue, for error messages.

  Raises:
    DataError: A user is too short or an item unknown and the config does not
      allow it, all items are unknown, or no user is left.
  """
  num_read, num_users = len(events.history), len(events.user_ids)
  if not config.keep_repeats:
    events = events.only(_first_of_equals(events))
  repeats = num_read - len(events.history)
  events = _without_short_users(config, events, events_file, repeats)
  used = len(events.history)
  short_events = num_read - repeats - used
  counted = {
    'events': counts.flow(
      num_read,
      used,
      {'exact repeats': repeats, f'of users {_SHORT}': short_events},
    ),
    'users': counts.flow(
      num_users,
      len(events.user_ids),
      {_SHORT: num_users - len(events.user_ids)},
    ),
  }
  bought, first = np.unique(events.history, return_index=True)
  seen = [events.item_ids[code] for code in bought[np.argsort(first)]]
  unknown = [item_id for item_id in seen if item_id not in catalogue]
  ids = tuple(sorted({*seen, *catalogue}, key=_hashed))
  counted['items'] = {
    'read': len(catalogue),
    'used': len(ids),
    'never_bought': len(ids) - len(seen),
  }
  if unknown:
    hint = counts.hint(unknown, catalogue)
    _check_join(config, unknown, len(seen), hint, events_file, items_file)
    lacking = np.asarray([x not in catalogue for x in events.item_ids])
    counted['missing'] = {
      'items': len(unknown),
      'of_items': len(seen),
      'events': int(lacking[events.history].sum()),
      'of_events': used,
      'first': unknown[:3],
      'hint': hint,
    }
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
    counts=counted,
  )


def _hashed(item_id: str) -> bytes:
  """Returns the sha256 of an id, which orders the items."""
  return hashlib.sha256(item_id.encode('utf-8', 'surrogatepass')).digest()


def _first_of_equals(events: Events) -> Bool[np.ndarray, ' interactions']:
  """Selects the events that do not repeat an earlier one exactly."""
  user, item, time = events.users(), events.history, events.timestamps
  # The sort is stable: among equal events, the earliest is first.
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
  """Raises DataError if too many bought items are not in the catalogue."""
  because = f' ({hint})' if hint else ''
  first = counts.first_ids(unknown)
  if len(unknown) == num_bought:
    raise DataError(
      f'none of the {num_bought} items that {events_file} names is in '
      f'{items_file}, such as {first}{because}: write the ids alike in both '
      'files'
    )
  if not config.allow_missing_metadata:
    raise DataError(
      f'{events_file} names {len(unknown)} items that {items_file} does not '
      f'hold, the first {first}{because}: add them or set '
      'config.dataset.allow_missing_metadata=True'
    )


def _without_short_users(
  config: DatasetConfig, events: Events, events_file: str, repeats: int
) -> Events:
  lengths = np.diff(events.offsets)
  keep = lengths >= MIN_EVENTS
  users = np.flatnonzero(keep).tolist()
  short = np.flatnonzero(~keep)
  dropped = f' ({repeats} exact repeats do not count)' if repeats else ''
  if not users:
    raise DataError(
      f'{events_file} has no user with at least {MIN_EVENTS} events{dropped}, '
      'one each to train on, to validate and to test: add some'
    )
  if len(short) and not config.drop_short_users:
    first = short[0]
    raise DataError(
      f'{events_file} has {len(short)} users {_SHORT}{dropped}, the first '
      f'{item_text.shown(events.user_ids[first])} with {lengths[first]}: add '
      'events or set config.dataset.drop_short_users=True'
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
