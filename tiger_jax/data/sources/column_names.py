"""Maps the column names of a file to the column names of the program."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiger_jax.data import item_text
from tiger_jax.errors import DataError

# The names that each column may have besides its own, in lower case, without
# spaces, hyphens and underscores.
_ALIASES = {
  'user': (
    'userid', 'uid', 'reviewerid', 'customerid', 'visitorid', 'sessionid',
    'userpseudoid',
  ),
  'item': (
    'itemid', 'iid', 'asin', 'parentasin', 'movieid', 'productid', 'articleid',
    'businessid', 'videoid',
  ),
  'timestamp': (
    'ts', 'time', 'datetime', 'date', 'unixreviewtime', 'eventtimestamp',
    'timems', 'tdat',
  ),
  'title': ('name', 'prodname', 'appname', 'producttitle'),
  'brand': ('brandname',),
  'categories': ('category', 'genres'),
}  # fmt: skip
_COLUMNS = {alias: name for name, x in _ALIASES.items() for alias in x}
_MOST_SHOWN = 12


def column_of(raw: str) -> str:
  """Returns the column that a name in a file stands for.

  The function ignores case, spaces, hyphens and underscores, and a type after a
  colon, as in RecBole's `user_id:token`.
  """
  name = raw.strip().strip('"\ufeff').partition(':')[0].casefold()
  for mark in ' -_':
    name = name.replace(mark, '')
  return _COLUMNS.get(name, name)


def select(
  path: Path,
  names: Sequence[str],
  required: Sequence[str],
  optional: Sequence[str],
) -> tuple[dict[str, int], tuple[str, ...]]:
  """Returns the positions of the columns in a file, and notes for the user.

  Raises:
    DataError: A required column is missing; or two names stand for the same
      column, and neither is equal to the column's own name.
  """
  positions = {}
  for column in (*required, *optional):
    candidates = [i for i, raw in enumerate(names) if column_of(raw) == column]
    candidates = _exact(names, candidates, column) or candidates
    if len(candidates) > 1:
      shown = ' and '.join(item_text.shown(names[i]) for i in candidates[:2])
      raise DataError(
        f'{path} has columns {shown}, and either could be {column}: name one '
        f'of them {column!r}, or remove one'
      )
    if candidates:
      positions[column] = candidates[0]
  _require(path, names, positions, required)
  return positions, tuple(_unused(path, names, positions))


def merge(
  path: Path,
  fields: Mapping[str, list[Any]],
  other_names: Iterable[str],
  required: Sequence[str],
) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
  """Merges the fields whose names stand for the same column.

  For example, some records may have the field `user`, and others `user_id`. If
  a record has both with different values, only `user` is read in all records,
  because `user` is the column's own name. In this case, a record that has only
  `user_id` is an error.

  Args:
    path: The file, for messages.
    fields: Maps the name of each field in the file to the values of all
      records. None stands for a missing field.
    other_names: The names of further fields in the file, for messages.
    required: The columns that the file must have.

  Returns:
    The merged columns, and notes for the user.

  Raises:
    DataError: A required column is missing, or a record has two different
      values for a column, and the rule above does not choose one.
  """
  names: dict[str, list[str]] = {}
  for raw in fields:
    names.setdefault(column_of(raw), []).append(raw)
  columns: dict[str, list[Any]] = {}
  notes = []
  for column, raw_names in names.items():
    values, conflict = _merged(fields, raw_names)
    exact = _exact(raw_names, range(len(raw_names)), column)
    if conflict is None:
      columns[column] = values
    elif len(exact) == 1 and _is_complete(fields, raw_names, exact[0]):
      columns[column] = fields[raw_names[exact[0]]]
      notes += _unused(path, raw_names, {column: exact[0]})
    else:
      row, *sources = conflict
      shown = ' and '.join(map(item_text.shown, sources))
      raise DataError(
        f'{path} has columns {shown}, and either could be {column}, but row '
        f'{row + 1} has a different value in each: name one of them {column!r} '
        'in every row, or remove one'
      )
  _require(path, [*fields, *other_names], columns, required)
  return columns, tuple(notes)


def _exact(
  names: Sequence[str], positions: Iterable[int], column: str
) -> list[int]:
  """Returns the positions of the names that equal the column's own name.

  If no name is equal, the function returns the positions of the names that
  differ from the column's own name only in case.
  """
  same_word = [i for i in positions if names[i].strip().casefold() == column]
  return [i for i in same_word if names[i] == column] or same_word


def _unused(
  path: Path, names: Sequence[str], positions: Mapping[str, int]
) -> list[str]:
  """Returns a note about each column that is not read, with the reason."""
  return [
    f'{path.name}: column {item_text.shown(raw)} is not read, because there is '
    f'a column {item_text.shown(names[positions[column]])}'
    for i, raw in enumerate(names)
    if (column := column_of(raw)) in positions and i != positions[column]
  ]


def _require(
  path: Path,
  names: Sequence[str],
  columns: Iterable[str],
  required: Sequence[str],
) -> None:
  """Raises DataError if `columns` lacks a required column."""
  missing = [name for name in required if name not in columns]
  if missing:
    shown = ', '.join(item_text.shown(name) for name in names[:_MOST_SHOWN])
    more = ', ...' if len(names) > _MOST_SHOWN else ''
    hint = 'rename them (docs/data.md lists other names that are accepted)'
    if path.name.removesuffix('.gz').endswith('.csv'):
      hint += ', or add a first line that names the columns'
    raise DataError(
      f'{path} has no column {" and no column ".join(missing)}: it needs '
      f'{", ".join(required)}, and its columns are {shown}{more}; {hint}'
    )


def _merged(
  fields: Mapping[str, list[Any]], raw_names: list[str]
) -> tuple[list[Any], tuple[int, str, str] | None]:
  """Returns the merged values and the first conflict, or None.

  A conflict is a row with two different values. It is returned as the row and
  the names of the two fields.
  """
  merged = fields[raw_names[0]]
  if len(raw_names) == 1:
    return merged, None
  merged = list(merged)
  source = [raw_names[0]] * len(merged)
  for raw in raw_names[1:]:
    for row, value in enumerate(fields[raw]):
      if value is None:
        continue
      if merged[row] is None:
        merged[row], source[row] = value, raw
      elif type(merged[row]) is not type(value) or merged[row] != value:
        return [], (row, source[row], raw)
  return merged, None


def _is_complete(
  fields: Mapping[str, list[Any]], raw_names: list[str], exact: int
) -> bool:
  """Returns whether every record with a value in any field has field `exact`.

  `exact` is the index of the field in `raw_names`.
  """
  return all(
    row[exact] is not None or not any(value is not None for value in row)
    for row in zip(*(fields[raw] for raw in raw_names), strict=True)
  )
