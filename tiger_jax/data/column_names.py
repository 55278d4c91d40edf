"""Which column of a file is which, whatever its owner calls it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tiger_jax.data import item_text
from tiger_jax.errors import DataError

# Lower case, without blanks, hyphens and underscores; the name itself is one.
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

  Case, blanks, hyphens and underscores do not count, nor does a type after a
  colon, as RecBole writes it (`user_id:token`).
  """
  name = raw.strip().strip('"\ufeff').partition(':')[0].casefold()
  for mark in ' -_':
    name = name.replace(mark, '')
  return _COLUMNS.get(name, name)


def resolve(
  path: Path, names: Sequence[str], wanted: Iterable[str]
) -> dict[str, int]:
  """Returns the position of each wanted column that there is.

  Args:
    path: The file, for error messages.
    names: As the file has them.
    wanted: The columns that are looked for.

  Raises:
    DataError: Two names stand for the same column, and neither is its own.
  """
  positions = {}
  for column in wanted:
    candidates = [i for i, raw in enumerate(names) if column_of(raw) == column]
    # The name itself wins over others, and as it is over other capitals.
    for plain in (lambda raw: raw.strip().casefold(), lambda raw: raw):
      own = [i for i in candidates if plain(names[i]) == column]
      candidates = own or candidates
    if len(candidates) > 1:
      both = ' and '.join(item_text.shown(names[i]) for i in candidates[:2])
      raise DataError(
        f'{path} has columns {both}, and either could be {column}: name one of '
        f'them {column!r}, or remove one'
      )
    if candidates:
      positions[column] = candidates[0]
  return positions


def require(
  path: Path,
  names: Sequence[str],
  found: Iterable[str],
  required: Sequence[str],
) -> None:
  """Checks that a file has the columns it needs.

  Args:
    path: The file.
    names: All columns of it, as it has them.
    found: Those that `resolve` found.
    required: Those that it must have.

  Raises:
    DataError: One is missing.
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
