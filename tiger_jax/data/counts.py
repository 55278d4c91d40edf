"""Counts of the events, users and items that were read, used and dropped.

The counts are plain JSON. The data stage saves them as `counts.json`:

  events, users: {'read', 'used', 'dropped': {reason: number}}
  items: {'read', 'used', 'never_bought', 'repeated',
    'dropped': {reason: number}}
  missing: bought items that are not in the catalog, {'items', 'of_items',
    'events', 'of_events', 'first': up to three ids, 'hint'}
  fields: {name: {'empty', 'joined', 'no_number', 'unusable': number of items,
    'first': the place of the first unusable value,
    'such_as': the first price that is not a number}}
  rows: {file: {'read', 'kept', 'dropped': {reason: {'rows', 'samples'}}}}, see
    `data.files.row_counts`
  notes: further sentences for the user
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from tiger_jax.data import item_text
from tiger_jax.storage import files

_FILE = 'counts.json'
_HINTS: tuple[tuple[str, Callable[[str], str]], ...] = (
  ('leading zeros are ignored', lambda x: x.lstrip('0') or '0'),
  ('case is ignored', str.casefold),
  ('a final .0 is ignored', lambda x: x.removesuffix('.0')),
  ('spaces are ignored', lambda x: ''.join(x.split())),
  ('quotation marks are ignored', lambda x: x.strip('"\'')),
)


class FieldCounts:
  """Counts the kinds of values in the text fields of items."""

  def __init__(self) -> None:
    """Starts without counts."""
    self.fields: dict[str, dict[str, Any]] = {}

  def read(self, name: str, value: Any, where: str) -> str:
    """Returns the text of a field, and counts the kind of its value.

    `where` is the place of the value in a file, for messages.
    """
    text, kind = item_text.field(name, value)
    counted = self.fields.setdefault(name, {})
    if kind != item_text.TEXT:
      counted[kind] = counted.get(kind, 0) + 1
    if kind == item_text.UNUSABLE:
      type_name = item_text.type_name(value)
      counted.setdefault('first', f'{where}: {type_name}')
    if kind == item_text.NO_NUMBER:
      counted.setdefault('such_as', item_text.shown(value))
    return text


def flow(read: int, used: int, dropped: dict[str, int]) -> dict[str, Any]:
  """Returns the counts of `events` or `users`; omits reasons without drops."""
  return {
    'read': read,
    'used': used,
    'dropped': {reason: number for reason, number in dropped.items() if number},
  }


def without_drops(users: int, items: int, events: int) -> dict[str, Any]:
  """Returns the counts of a source from which nothing was dropped."""
  return {
    'events': flow(events, events, {}),
    'users': flow(users, users, {}),
    'items': {'read': items, 'used': items},
  }


def after_drop(
  counts: dict[str, Any], reason: str, users: int, events: int
) -> dict[str, Any]:
  """Returns the counts after more users and events were dropped.

  `users` and `events` are the numbers that remain.
  """
  changed = dict(counts)
  for name, used in (('users', users), ('events', events)):
    if before := counts.get(name):
      dropped = before['dropped'] | {reason: before['used'] - used}
      changed[name] = flow(before['read'], used, dropped)
  return changed


def hint(missing: Collection[str], known: Iterable[str]) -> str:
  """Describes the difference that explains the most missing ids.

  For example, '9 of 10 match when leading zeros are ignored'. Returns '' if no
  difference in `_HINTS` explains a missing id.
  """
  known = tuple(known)
  best, most_matches = '', 0
  for name, normalize in _HINTS:
    normalized = {normalize(x) for x in known}
    matches = sum(normalize(x) in normalized for x in missing)
    if matches > most_matches:
      best = f'{matches:,} of {len(missing):,} match when {name}'
      most_matches = matches
  return best


def first_ids(ids: Iterable[str]) -> str:
  """Returns the first three ids, separated by commas, for a message."""
  shown = [x for x, _ in zip(ids, range(3), strict=False)]
  return ', '.join(map(item_text.shown, shown))


def write(counts: dict[str, Any], folder: Path) -> None:
  """Writes `counts.json` into the folder of a dataset."""
  files.write_json(folder / _FILE, counts)


def read(folder: Path) -> dict[str, Any]:
  """Returns the counts of a dataset, or an empty dict if none are saved."""
  path = folder / _FILE
  with files.explained(
    f'{path} is damaged', f'delete {folder} and prepare it again'
  ):
    counts = files.read_json(path) if path.exists() else {}
    lines(counts)  # Fails if an entry is missing or has a wrong type.
  return counts


def lines(counts: dict[str, Any]) -> list[str]:
  """Returns the counts as lines to print."""
  shown = [
    f'rows of {name}: {_rows_line(rows)}'
    for name, rows in counts.get('rows', {}).items()
    if rows['dropped']
  ]
  shown += [
    f'{name}: {_flow_line(counts[name])}'
    for name in ('events', 'users')
    if counts.get(name)
  ]
  if items := counts.get('items'):
    shown.append(f'items: {_items_line(items)}')
  if missing := counts.get('missing'):
    shown.append(_missing_line(missing))
  if texts := _field_texts(counts.get('fields', {})):
    shown.append(f'text: {"; ".join(texts)}')
  if notes := counts.get('notes'):
    shown.append('; '.join(notes))
  return [item_text.plain(line) for line in shown]


def _flow_line(flow: dict[str, Any]) -> str:
  text = f'{flow["read"]:,} read, {flow["used"]:,} used'
  dropped = [f'{number:,} {why}' for why, number in flow['dropped'].items()]
  return text + (f'; dropped: {", ".join(dropped)}' if dropped else '')


def _rows_line(rows: dict[str, Any]) -> str:
  text = f'{rows["read"]:,} read, {rows["kept"]:,} kept'
  dropped = [
    f'{entry["rows"]:,} {reason} ({"; ".join(entry["samples"])})'
    for reason, entry in rows['dropped'].items()
  ]
  return text + (f'; dropped: {", ".join(dropped)}' if dropped else '')


def _items_line(items: dict[str, Any]) -> str:
  read, used = items['read'], items['used']
  dropped = items.get('dropped', {})
  text = f'{read:,} read, '
  # Only some sources count all items that they do not use as dropped.
  if (unlisted := used + sum(dropped.values()) - read) > 0:
    text += f'{unlisted:,} more known only from purchases, '
  text += f'{used:,} used'
  if number := items.get('never_bought'):
    text += f', {number:,} of them never bought'
  if number := items.get('repeated'):
    text += f'; {number:,} were repeated, and the last copy is kept'
  if dropped:
    reasons = ', '.join(f'{number:,} {why}' for why, number in dropped.items())
    text += f'; dropped: {reasons}'
  return text


def _missing_line(missing: dict[str, Any]) -> str:
  share = missing['events'] / missing['of_events']
  text = (
    f'without text: {missing["items"]:,} of {missing["of_items"]:,} bought '
    f'items ({share:.1%} of events) are not in the catalog, such as '
    f'{first_ids(missing["first"])}'
  )
  return text + (f'; {missing["hint"]}' if missing['hint'] else '')


def _field_texts(fields: dict[str, dict[str, Any]]) -> list[str]:
  texts = []
  for kind, words, example in (
    (item_text.EMPTY, 'empty', ''),
    (item_text.JOINED, 'joined from lists', ''),
    (item_text.NO_NUMBER, 'not a number', 'such_as'),
    (item_text.UNUSABLE, 'unusable', 'first'),
  ):
    names = [
      f'{name} {counted[kind]:,}'
      + (f' ({counted[example]})' if example else '')
      for name, counted in fields.items()
      if counted.get(kind)
    ]
    if names:
      texts.append(f'{words}: {", ".join(names)}')
  return texts
