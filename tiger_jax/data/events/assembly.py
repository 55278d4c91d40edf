"""Builds a `Dataset` from the events and the item texts of any source."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
from typing import Any

from jaxtyping import Int, Int64
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts, item_text
from tiger_jax.data.dataset import FIELDS, MIN_EVENTS, Dataset, Items
from tiger_jax.data.events import filters
from tiger_jax.data.events.log import ItemTexts, Log
from tiger_jax.errors import DataError

# Part of the fingerprint of a dataset, because it determines the item rows.
ITEM_ORDER = 'sha256 of the id'
NO_ITEMS = 'there is no items file, so the ids of items are their titles'


def assemble(
  config: DatasetConfig,
  log: Log,
  texts: ItemTexts | None,
  events_file: str,
  items_file: str,
) -> Dataset:
  """Filters the events, joins them with the items, and numbers the items.

  Items are sorted by a hash of their ids. If the rows followed the order of the
  events, they would leak held-out events (appendix D of the paper), because the
  row of an item determines its collision code and its order among equal scores.

  Args:
    config: The filters, see `filters.apply`, and `allow_missing_metadata`.
    log: The events of the source.
    texts: The items of the source; None if it has only events. The ids of the
      items are then used as their titles.
    events_file: The source of the events, for error messages.
    items_file: The source of the items, for error messages.

  Raises:
    DataError: A user has too few events, or an item is not in `texts`, and the
      config does not allow this; or no item of the events is in `texts`; or no
      event remains.
  """
  num_read = len(log.users)
  filtered = filters.apply(config, log, events_file)
  used = filtered.log
  lengths = np.bincount(used.users, minlength=len(log.user_ids))
  short = np.flatnonzero((lengths > 0) & (lengths < MIN_EVENTS))
  if len(short):
    first = log.user_ids[short[0]], int(lengths[short[0]])
    num_long = int((lengths >= MIN_EVENTS).sum())
    raise short_users(len(short), first, num_long, filtered.events, events_file)
  users = np.flatnonzero(lengths)
  num_users = len(users) + sum(filtered.users.values())
  dataset_counts: dict[str, Any] = {
    'events': counts.flow(num_read, len(used.users), filtered.events),
    'users': counts.flow(num_users, len(users), filtered.users),
  }
  places = {} if texts is None else places_of(texts.ids)
  notes = list(
    filters.notes(filtered.excluded, log.user_ids, log.item_ids, places.keys())
  )
  if texts is None:
    notes.append(NO_ITEMS)
  num_events = np.bincount(used.items, minlength=len(log.item_ids))
  if texts is not None and (
    missing := missing_items(
      config, log.item_ids, num_events, places, events_file, items_file
    )
  ):
    dataset_counts['missing'] = missing
  excluded = filtered.excluded['exclude_items']
  ids, item_counts = catalog(
    config.k_core, excluded, log.item_ids, num_events, places
  )
  order = used.order()
  rows = dict(zip(ids, range(len(ids)), strict=True))
  codes = np.fromiter((rows.get(x, -1) for x in log.item_ids), np.int32)
  if notes:
    dataset_counts['notes'] = notes
  return Dataset(
    name=config.name,
    items=Items(ids=ids, fields=fields_of(ids, texts, places)),
    user_ids=tuple(log.user_ids[user] for user in users.tolist()),
    history=codes[used.items[order]],
    offsets=_offsets(lengths[users]),
    timestamps=None if used.timestamps is None else used.timestamps[order],
    counts=dataset_counts | {'items': item_counts},
  )


def with_counts(dataset: Dataset, notes: Sequence[str], **more: Any) -> Dataset:
  """Returns a dataset with further counts, and further notes for the user.

  A dict in `more` is merged with the counts of the same name.
  """
  merged = dict(dataset.counts)
  for name, value in more.items():
    merged[name] = merged.get(name, {}) | value
  if all_notes := [*notes, *merged.get('notes', ())]:
    merged['notes'] = all_notes
  return dataclasses.replace(dataset, counts=merged)


def _hashed(item_id: str) -> bytes:
  """Returns the sha256 of an id, which orders the items."""
  return hashlib.sha256(item_id.encode('utf-8', 'surrogatepass')).digest()


def places_of(ids: Sequence[str]) -> dict[str, int]:
  """Returns the place of each id of an items file."""
  places = dict(zip(ids, range(len(ids)), strict=True))
  assert len(places) == len(ids), 'an item id occurs twice'
  return places


def catalog(
  k_core: int,
  excluded: frozenset[str],
  item_ids: Sequence[str],
  num_events: Int[np.ndarray, ' ids'],
  places: Mapping[str, int],
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """Returns the ids of the items in the order of their rows, and the counts.

  Args:
    k_core: The setting `k_core`.
    excluded: The ids of excluded items.
    item_ids: The ids in the log.
    num_events: The number of remaining events of each id in the log.
    places: The place of each id in the items file.
  """
  bought = {item_ids[code] for code in np.flatnonzero(num_events).tolist()}
  known = bought.union(places)
  used = known - excluded
  dropped = {'excluded': len(known) - len(used)}
  if k_core:
    reason = f'with fewer than {k_core} events'
    dropped[reason] = len(used) - len(bought)
    used = bought
  flow = counts.flow(len(places), len(used), dropped)
  if not flow['dropped']:
    del flow['dropped']
  ids = tuple(sorted(used, key=_hashed))
  return ids, flow | {'never_bought': len(used) - len(bought)}


def fields_of(
  ids: Sequence[str], texts: ItemTexts | None, places: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
  """Returns the columns of the items in the order of `ids`."""
  columns: dict[str, Sequence[str]] = {} if texts is None else {**texts.fields}
  fields = {}
  # An item without texts gets the last entry, which is empty.
  order = [places.get(x, -1) for x in ids]
  for name in dict.fromkeys((*FIELDS, *columns)):
    padded = [*columns.get(name, ('',) * len(places)), '']
    fields[name] = tuple(padded[place] for place in order)
  return fields


def missing_items(
  config: DatasetConfig,
  item_ids: Sequence[str],
  num_events: Int[np.ndarray, ' ids'],
  places: Mapping[str, int],
  events_file: str,
  items_file: str,
) -> dict[str, Any]:
  """Counts the bought items that are not in the items file.

  Args:
    config: The settings.
    item_ids: The ids in the events, in the order of the source.
    num_events: The number of remaining events of each id, which may be 0.
    places: The place of each id in the items file.
    events_file: The source of the events, for messages.
    items_file: The source of the items, for messages.

  Raises:
    DataError: No bought item is in the items file, or some are not and the
      config does not allow this.
  """
  bought = [item_ids[code] for code in np.flatnonzero(num_events).tolist()]
  unknown = [item_id for item_id in bought if item_id not in places]
  if not unknown:
    return {}
  hint = counts.hint(unknown, places)
  because = f' ({hint})' if hint else ''
  first = counts.first_ids(unknown)
  if len(unknown) == len(bought):
    raise DataError(
      f'{items_file} has none of the {len(bought)} items in {events_file}, '
      f'such as {first}{because}: use the same ids in both files'
    )
  if not config.allow_missing_metadata:
    raise DataError(
      f'{events_file} names {len(unknown)} items that are not in {items_file}, '
      f'such as {first}{because}: add them or set '
      'config.dataset.allow_missing_metadata=True'
    )
  is_unknown = np.asarray([x not in places for x in item_ids])
  return {
    'items': len(unknown),
    'of_items': len(bought),
    'events': int(num_events[is_unknown].sum()),
    'of_events': int(num_events.sum()),
    'first': unknown[:3],
    'hint': hint,
  }


def short_users(
  num_short: int,
  first: tuple[str, int],
  num_long: int,
  dropped: Mapping[str, int],
  events_file: str,
) -> DataError:
  """Returns an error about users with too few events.

  Args:
    num_short: The number of these users.
    first: The id of the first of them, and its number of events.
    num_long: The number of users with enough events.
    dropped: The number of dropped events by reason.
    events_file: The source of the events.
  """
  reasons = ' and '.join(f'{number:,} {why}' for why, number in dropped.items())
  uncounted = f' ({reasons} do not count)' if reasons else ''
  if not num_long:
    return DataError(
      f'{events_file} has no user with at least {MIN_EVENTS} events'
      f'{uncounted}: add events, because a user needs a validation item, a '
      'test item and an earlier item'
    )
  return DataError(
    f'{events_file} has {num_short} users with fewer than {MIN_EVENTS} events'
    f'{uncounted}, such as {item_text.shown(first[0])} with {first[1]}: add '
    'events or set config.dataset.drop_short_users=True'
  )


def _offsets(lengths: Int[np.ndarray, ' users']) -> Int64[np.ndarray, ' n']:
  return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
