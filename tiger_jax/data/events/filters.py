"""Applies the filters of the config section `dataset`, and counts the drops."""

from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
)
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiger_jax.config import DatasetConfig
from tiger_jax.data import counts
from tiger_jax.data.dataset import MIN_EVENTS
from tiger_jax.data.events import masks
from tiger_jax.data.events.log import Log
from tiger_jax.errors import DataError
from tiger_jax.storage import files
from tiger_jax.storage.fingerprints import file_digests

_MAX_LIST_BYTES = 2**30


class Filtered(NamedTuple):
  """The remaining events, and the numbers of dropped events and users.

  Attributes:
    log: The remaining events. Some users and items may have none.
    events: The number of dropped events, by reason.
    users: The number of users without a remaining event, by reason.
    excluded: The ids in the files of `exclude_users` and `exclude_items`, by
      setting.
  """

  log: Log
  events: dict[str, int]
  users: dict[str, int]
  excluded: dict[str, frozenset[str]]


class Step(NamedTuple):
  """A filter: the setting, the reasons to print, and the events to keep."""

  setting: str
  event_reason: str
  user_reason: str
  keep: Callable[[Log], masks.Mask]


class Drops:
  """Counts the dropped events and users by reason.

  Attributes:
    events: The number of dropped events, by reason.
    users: The number of users without a remaining event, by reason.
  """

  def __init__(self) -> None:
    """Starts at zero."""
    self.events: dict[str, int] = {}
    self.users: dict[str, int] = {}

  def apply(self, steps: Iterable[Step], log: Log) -> Log:
    """Applies filters in turn, and counts the dropped events and users."""
    before = masks.num_users(log)
    for step in steps:
      remaining = log.select(step.keep(log))
      after = masks.num_users(remaining)
      self.add(step.event_reason, len(log.users) - len(remaining.users))
      self.add_users(step.user_reason, before - after)
      log, before = remaining, after
    return log

  def add(self, reason: str, number: int) -> None:
    """Counts dropped events."""
    if number:
      self.events[reason] = self.events.get(reason, 0) + number

  def add_users(self, reason: str, number: int) -> None:
    """Counts dropped users."""
    if number:
      self.users[reason] = self.users.get(reason, 0) + number


def apply(
  config: DatasetConfig, log: Log, events_file: str = 'the source'
) -> Filtered:
  """Applies all filters in a fixed order.

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
  num_read = len(log.users)
  if not num_read:
    raise DataError(f'{events_file} has no events: add events')
  excluded = read_excluded(config)
  drops = Drops()
  log = drops.apply(steps(config, excluded), log)
  if not len(log.users):
    raise nothing_left(config, drops, num_read, events_file)
  return Filtered(log, drops.events, drops.users, excluded)


def nothing_left(
  config: DatasetConfig, drops: Drops, num_read: int, events_file: str
) -> DataError:
  """Returns an error about a source whose events are all dropped.

  Args:
    config: The settings.
    drops: The numbers of dropped events.
    num_read: The number of events of the source.
    events_file: The source of the events, for the message.
  """
  reason = max(drops.events, key=lambda x: drops.events[x])
  all_steps = steps(config, read_excluded(config))
  setting = next(x.setting for x in all_steps if x.event_reason == reason)
  advice = f'change config.dataset.{setting}'
  if setting in ('drop_short_users', 'min_history'):
    advice = (
      'add events, because a user needs a validation item, a test item and '
      'an earlier item'
    )
  return DataError(
    f'{events_file} has no user with at least {min_user_events(config)} '
    f'events after all filters: {drops.events[reason]:,} of its {num_read:,} '
    f'events are {reason}; {advice}'
  )


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


def read_excluded(config: DatasetConfig) -> dict[str, frozenset[str]]:
  """Returns the ids in the files of `exclude_users` and `exclude_items`.

  Raises:
    DataError: A file is missing, or is not UTF-8 text.
  """
  return {
    'exclude_users': _read_ids(config.exclude_users, 'exclude_users'),
    'exclude_items': _read_ids(config.exclude_items, 'exclude_items'),
  }


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
  excluded: Mapping[str, frozenset[str]],
  user_ids: Collection[str],
  item_ids: Collection[str],
  catalog: Collection[str],
) -> Iterator[str]:
  """Yields notes about excluded ids that are not in the source.

  `user_ids` and `item_ids` have the ids of the events, and `catalog` has the
  ids of the items file.
  """
  for setting, known in (
    ('exclude_users', (user_ids,)),
    ('exclude_items', (item_ids, catalog)),
  ):
    listed = excluded[setting]
    if unknown := sorted(listed.difference(*known)):
      hint = counts.hint(unknown, itertools.chain(*known))
      yield (
        f'{setting}: {len(unknown):,} of {len(listed):,} ids are not in the '
        f'data, such as {counts.first_ids(unknown)}'
        + (f' ({hint})' if hint else '')
      )


def steps(
  c: DatasetConfig, excluded: Mapping[str, frozenset[str]]
) -> Iterator[Step]:
  """Yields the filters in their order.

  A filter decides on the events of a user from this user's events only. The
  filters of `k_core` also need the events of other users.
  """
  yield from user_steps(c, excluded)
  yield from _core_steps(c)


def user_steps(
  c: DatasetConfig, excluded: Mapping[str, frozenset[str]]
) -> Iterator[Step]:
  """Yields all filters except those by numbers of events."""
  if users := excluded['exclude_users']:
    yield Step(
      'exclude_users', 'of excluded users', 'excluded',
      lambda log: ~masks.listed(log.user_ids, users)[log.users],
    )  # fmt: skip
  if items := excluded['exclude_items']:
    yield Step(
      'exclude_items', 'of excluded items', 'by exclude_items',
      lambda log: ~masks.listed(log.item_ids, items)[log.items],
    )  # fmt: skip
  if c.min_rating:
    yield Step(
      'min_rating', 'without a rating', 'by min_rating',
      lambda log: ~np.isnan(masks.ratings(log)),
    )  # fmt: skip
    yield Step(
      'min_rating', f'rated below {c.min_rating:g}', 'by min_rating',
      lambda log: masks.ratings(log) >= c.min_rating,
    )  # fmt: skip
  if not c.keep_repeats:
    yield Step('keep_repeats', 'exact repeats', '', masks.is_not_repeat)
  if c.repeated_items != 'keep':
    which = 'later' if c.repeated_items == 'first' else 'earlier'
    yield Step(
      'repeated_items', f'{which} events with the same user and item', '',
      lambda log: masks.is_only(log, c.repeated_items == 'last'),
    )  # fmt: skip
  if c.max_history:
    yield Step(
      'max_history', f'before the latest {c.max_history} of a user', '',
      lambda log: masks.is_latest(log, c.max_history),
    )  # fmt: skip


def _core_steps(c: DatasetConfig) -> Iterator[Step]:
  """Yields the filters by numbers of events.

  The first step computes both masks. If both the user and the item of an event
  are dropped, the event is counted for the one that is dropped first.
  """
  if not drops_short_users(c):
    return
  num = min_user_events(c)
  setting = 'k_core' if c.k_core == num else 'min_history'
  by_user_reason, by_item_reason, user_reason = core_reasons(c)
  item_kept: list[masks.Mask] = []

  def keep_users(log: Log) -> masks.Mask:
    by_user, by_item = masks.short(log, num, c.k_core)
    item_kept.append(~by_item[~by_user])
    return ~by_user

  yield Step(setting, by_user_reason, user_reason, keep_users)
  if c.k_core:
    yield Step(
      'k_core', by_item_reason, user_reason, lambda log: item_kept[0],
    )  # fmt: skip


def core_reasons(c: DatasetConfig) -> tuple[str, str, str]:
  """Returns three reasons of the filters by numbers of events.

  The first is for events that are dropped because of their user, the second for
  events that are dropped because of their item, and the third for users.
  """
  num = min_user_events(c)
  return (
    f'of users with fewer than {num} events',
    f'of items with fewer than {c.k_core} events',
    f'with fewer than {num} events',
  )
