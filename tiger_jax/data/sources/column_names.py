"""Maps the column names of a file to the names that the program uses."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tiger_jax.data import item_text
from tiger_jax.errors import DataError

# Other names of each column, in lower case, without spaces, hyphens and
# underscores.
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

  Case, spaces, hyphens and underscores are ignored, and so is a type after a
  colon, as in RecBole's `user_id:token`.
  """
  name = raw.strip().strip('"\ufeff').partition(':')[0].casefold()
  for mark in ' -_':
    name = name.replace(mark, '')
  return _COLUMNS.get(name, name)


def resolve(
  path: Path, names: Sequence[str], wanted: Iterable[str]
) -> dict[str, int]:
  """Returns the position of each wanted column that the file has.

  Args:
    path: The file, for error messages.
    names: The names in the file, in order.
    wanted: The columns to find.

  Raises:
    DataError: Two names stand for the same column, and neither is the exact
      name of that column.
  """
  positions = {}
  for column in wanted:
    candidates = [i for i, raw in enumerate(names) if column_of(raw) == column]
    candidates = _exact(names, candidates, column) or candidates
    if len(candidates) > 1:
      both = ' and '.join(item_text.shown(names[i]) for i in candidates[:2])
      raise DataError(
        f'{path} has columns {both}, and either could be {column}: name one of '
        f'them {column!r}, or remove one'
      )
    if candidates:
      positions[column] = candidates[0]
  return positions


def exact(names: Sequence[str], column: str) -> int | None:
  """Returns the position of the one name that is that of the column, or None.

  Args:
    names: Names in a file.
    column: The column.
  """
  found = _exact(names, range(len(names)), column)
  return found[0] if len(found) == 1 else None


def _exact(
  names: Sequence[str], positions: Iterable[int], column: str
) -> list[int]:
  """Returns the positions with the name of the column, ideally in its case."""
  alike = [i for i in positions if names[i].strip().casefold() == column]
  return [i for i in alike if names[i] == column] or alike


def unused(
  path: Path, names: Sequence[str], found: Mapping[str, int]
) -> list[str]:
  """Returns notes about columns that are not read because of their names.

  Args:
    path: The file.
    names: All names in the file, in order.
    found: What `resolve` has returned.
  """
  return [
    f'{path.name}: column {item_text.shown(raw)} is not read, because there is '
    f'a column {item_text.shown(names[found[column]])}'
    for i, raw in enumerate(names)
    if (column := column_of(raw)) in found and i != found[column]
  ]


def require(
  path: Path,
  names: Sequence[str],
  found: Iterable[str],
  required: Sequence[str],
) -> None:
  """Checks that a file has the columns it needs.

  Args:
    path: The file.
    names: All names in the file.
    found: The columns that `resolve` has found.
    required: The columns that the file must have.

  Raises:
    DataError: A required column is missing.
  """
  missing = [name for name in required if name not in found]
  if missing:
    shown = ', '.join(item_text.shown(name) for name in names[:_MOST_SHOWN])
    more = ', ...' if len(names) > _MOST_SHOWN else ''
    raise DataError(
      f'{path} has no column {missing[0]}: it needs {", ".join(required)}, and '
      f'its columns are {shown}{more}; rename one, or add a first line that '
      'names the columns'
    )
