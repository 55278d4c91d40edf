"""Applies the filters of the section `dataset`, and counts dropped events."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Bool, Float32, Int64
import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.dataset import MIN_EVENTS
from tiger_jax.data.events.log import Log
from tiger_jax.errors import DataError
from tiger_jax.storage import files
from tiger_jax.storage.fingerprints import file_digests

_MAX_LIST_BYTES = 2**30
_Mask = Bool[np.ndarray, ' interactions']


class Filtered(NamedTuple):
  """The remaining events, and the numbers of dropped events and users.

  Attributes:
    log: The remaining events. Some users and items may have none.
    events: The number of dropped events by reason.
    users: The number of users without a remaining event by reason.
    excluded: The ids in the files of `exclude_users` and `exclude_items`, by
      setting.
  """

  log: Log
  events: dict[str, int]
  users: dict[str, int]
  excluded: dict[str, frozenset[str]]


class _Step(NamedTuple):
  """A filter: the setting, the reasons to print, and the events to keep."""

  setting: str
  event_reason: str
  user_reason: str
  keep: Callable[[Log], _Mask]


def apply(
  config: DatasetConfig, log: Log, events_file: str = 'the source'
) -> Filtered:
  """Drops events in a fixed order of the filters.

  The order is: excluded users and items, ratings, exact repeats, repeated
  items, old events, and then users and items with few events. The last filter
  is repeated until no more events are dropped. After that, no user or item has
  fewer events than the config requires.

  Args:
    config: The settings.
    log: The events.
    events_file: The source of the events, for error messages.

  Raises:
    DataError: A list of ids cannot be read, the source has no ratings, or no
      event remains.
  """
  if config.min_rating and log.ratings is None:
    raise DataError(
      f'{events_file} has no ratings, but config.dataset.min_rating is '
      f'{config.min_rating}: add a column rating, or remove the setting'
    )
  events: dict[str, int] = {}
  users: dict[str, int] = {}
  settings: dict[str, str] = {}
  num_read, before = len(log.users), _num_users(log)
  if not num_read:
    raise DataError(f'{events_file} has no events: add events')
  excluded = {
    'exclude_users': _read_ids(config.exclude_users, 'exclude_users'),
    'exclude_items': _read_ids(config.exclude_items, 'exclude_items'),
  }
  for step in _steps(config, excluded):
    remaining = log.select(step.keep(log))
    after = _num_users(remaining)
    _add(events, step.event_reason, len(log.users) - len(remaining.users))
    _add(users, step.user_reason, before - after)
    settings.setdefault(step.event_reason, step.setting)
    log, before = remaining, after
  if not len(log.users):
    reason = max(events, key=lambda x: events[x])
    advice = f'change config.dataset.{settings[reason]}'
    if settings[reason] in ('drop_short_users', 'min_history'):
      advice = (
        'add events, because a user needs a validation item, a test item and '
        'an earlier item'
      )
    raise DataError(
      f'{events_file} has no user with at least {min_user_events(config)} '
      f'events after all filters: {events[reason]:,} of its {num_read:,} '
      f'events are {reason}; {advice}'
    )
  return Filtered(log, events, users, excluded)


def made_from(config: DatasetConfig) -> dict[str, Any]:
  """Returns the settings that differ from their defaults, for a fingerprint.

  `keep_repeats` and `drop_short_users` are not included. A list of ids is
  identified by its content.
  """
  default = DatasetConfig()
  names = 'min_rating', 'repeated_items', 'max_history', 'min_history', 'k_core'
  settings = {
    name: getattr(config, name)
    for name in names
    if getattr(config, name) != getattr(default, name)
  }
  for name in ('exclude_users', 'exclude_items'):
    if path := getattr(config, name):
      settings[name] = [digest for _, digest in file_digests(path)]
  return settings


def min_user_events(config: DatasetConfig) -> int:
  """Returns the number of events that a user needs."""
  return max(MIN_EVENTS, config.min_history, config.k_core)


def drops_short_users(config: DatasetConfig) -> bool:
  """Returns whether users with few events are dropped instead of refused."""
  c = config
  return bool(c.drop_short_users or c.k_core or c.min_history > MIN_EVENTS)


def _read_ids(path: str, setting: str) -> frozenset[str]:
  """Returns the ids in a text file with one id per line.

  Spaces around an id and blank lines are ignored.

  Args:
    path: The file; '' for no ids.
    setting: The setting that gives the path, for error messages.

  Raises:
    DataError: The file is missing, or is not UTF-8 text.
  """
  if not path:
    return frozenset()
  with files.explained(
    f'config.dataset.{setting}: {path} cannot be read',
    'name a text file with one id per line',
  ):
    text = files.read(Path(path), _MAX_LIST_BYTES).decode('utf-8-sig')
  ids = (line.strip() for line in text.split('\n'))
  return frozenset(filter(None, ids))


def notes(
  excluded: Mapping[str, frozenset[str]], log: Log, catalog: Collection[str]
) -> Iterator[str]:
  """Yields notes about excluded ids that are not in the source.

  `catalog` has the ids of the items file.
  """
  for setting, known in (
    ('exclude_users', (log.user_ids,)),
    ('exclude_items', (log.item_ids, catalog)),
  ):
    listed = excluded[setting]
    if unknown := sorted(listed.difference(*known)):
      hint = counts.hint(unknown, itertools.chain(*known))
      yield (
        f'{setting}: {len(unknown):,} of {len(listed):,} ids are not in the '
        f'data, such as {counts.first_ids(unknown)}'
        + (f' ({hint})' if hint else '')
      )


def _steps(
  c: DatasetConfig, excluded: Mapping[str, frozenset[str]]
) -> Iterator[_Step]:
  if users := excluded['exclude_users']:
    yield _Step(
      'exclude_users', 'of excluded users', 'excluded',
      lambda log: ~_listed(log.user_ids, users)[log.users],
    )  # fmt: skip
  if items := excluded['exclude_items']:
    yield _Step(
      'exclude_items', 'of excluded items', 'by exclude_items',
      lambda log: ~_listed(log.item_ids, items)[log.items],
    )  # fmt: skip
  if c.min_rating:
    yield _Step(
      'min_rating', 'without a rating', 'by min_rating',
      lambda log: ~np.isnan(_ratings(log)),
    )  # fmt: skip
    yield _Step(
      'min_rating', f'rated below {c.min_rating:g}', 'by min_rating',
      lambda log: _ratings(log) >= c.min_rating,
    )  # fmt: skip
  if not c.keep_repeats:
    yield _Step('keep_repeats', 'exact repeats', '', _is_not_repeat)
  if c.repeated_items != 'keep':
    which = 'later' if c.repeated_items == 'first' else 'earlier'
    yield _Step(
      'repeated_items', f'{which} events with the same user and item', '',
      lambda log: _is_only(log, c.repeated_items == 'last'),
    )  # fmt: skip
  if c.max_history:
    yield _Step(
      'max_history', f'before the latest {c.max_history} of a user', '',
      lambda log: _is_latest(log, c.max_history),
    )  # fmt: skip
  yield from _core_steps(c)


def _core_steps(c: DatasetConfig) -> Iterator[_Step]:
  """Yields the filters by numbers of events.

  The first step computes both masks. If both the user and the item of an event
  are dropped, the event is counted for the one that is dropped first.
  """
  if not drops_short_users(c):
    return
  num = min_user_events(c)
  setting = 'k_core' if c.k_core == num else 'min_history'
  item_kept: list[_Mask] = []

  def keep_users(log: Log) -> _Mask:
    by_user, by_item = _short(log, num, c.k_core)
    item_kept.append(~by_item[~by_user])
    return ~by_user

  yield _Step(
    setting, f'of users with fewer than {num} events',
    f'with fewer than {num} events', keep_users,
  )  # fmt: skip
  if c.k_core:
    yield _Step(
      'k_core', f'of items with fewer than {c.k_core} events',
      f'with fewer than {num} events', lambda log: item_kept[0],
    )  # fmt: skip


def _add(numbers: dict[str, int], reason: str, number: int) -> None:
  if number:
    numbers[reason] = numbers.get(reason, 0) + number


def _num_users(log: Log) -> int:
  return int(np.count_nonzero(np.bincount(log.users)))


def _ratings(log: Log) -> Float32[np.ndarray, ' interactions']:
  assert log.ratings is not None, '`apply` refuses a log without ratings'
  return log.ratings


def _listed(
  ids: Sequence[str], listed: frozenset[str]
) -> Bool[np.ndarray, ' ids']:
  return np.fromiter((x in listed for x in ids), bool, len(ids))


def _pairs(log: Log) -> Int64[np.ndarray, ' interactions']:
  """Returns a number for each event that identifies its user and item."""
  return log.users.astype(np.int64) * len(log.item_ids) + log.items


def _is_not_repeat(log: Log) -> _Mask:
  """Returns a mask of the events that do not exactly repeat an earlier one."""
  if log.timestamps is None:  # A repeat looks like a new event.
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


def _is_only(log: Log, last: bool) -> _Mask:
  """Returns a mask with the first or the last event of each user and item."""
  pairs = _pairs(log)
  by_time = log.order()
  order = by_time[np.argsort(pairs[by_time], kind='stable')]
  sorted_pairs = pairs[order]
  same = sorted_pairs[1:] == sorted_pairs[:-1]
  kept = np.ones(len(order), bool)
  kept[(order[:-1] if last else order[1:])[same]] = False
  return kept


def _is_latest(log: Log, number: int) -> _Mask:
  """Returns a mask with the latest events of each user."""
  order = log.order()
  ends = np.cumsum(np.bincount(log.users, minlength=1))
  from_end = ends[log.users[order]] - np.arange(len(order))
  kept = np.empty(len(order), bool)
  kept[order] = from_end <= number
  return kept


def _short(log: Log, min_user: int, min_item: int) -> tuple[_Mask, _Mask]:
  """Returns two masks of the events to drop: because of users, and of items."""
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
