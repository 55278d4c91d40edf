"""Maps the column names of a file to the column names of the program."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tiger_jax.data import item_text
from tiger_jax.data.files import byte_streams
from tiger_jax.errors import DataError

# The other names that each column may have, in lower case, without spaces,
# hyphens and underscores.
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
  'rating': ('overall', 'stars', 'score'),
  'title': ('name', 'prodname', 'appname', 'producttitle'),
  'brand': ('brandname',),
  'categories': ('category', 'genres'),
}  # fmt: skip
_COLUMNS = {alias: name for name, x in _ALIASES.items() for alias in x}
_MOST_SHOWN = 12


def column_of(raw: str) -> str:
  """Returns the standard name of a column, given its name in a file.

  The function ignores case, spaces, hyphens and underscores, and a type after a
  colon, as in RecBole's `user_id:token`.
  """
  name = raw.strip().strip('"\ufeff').partition(':')[0].casefold()
  for mark in ' -_':
    name = name.replace(mark, '')
  return _COLUMNS.get(name, name)


class Columns:
  """The columns to read, and their names in the files.

  Attributes:
    required: The columns that each file must have.
    optional: Further columns to read if a file has them.
    wanted: All of these columns.
  """

  def __init__(
    self,
    required: Sequence[str],
    optional: Sequence[str] = (),
    named: Mapping[str, str] | None = None,
    fallback: Collection[str] = (),
  ):
    """Sets the columns.

    Args:
      required: See the class.
      optional: See the class.
      named: The names in the files, by column, from `config.dataset.columns`.
        No other name is then accepted for such a column.
      fallback: Columns of `named` for which the usual names are accepted in a
        file without the given name.
    """
    self.required = tuple(required)
    self.optional = tuple(optional)
    self.wanted = {*required, *optional}
    self._named = {
      column: name
      for column, name in (named or {}).items()
      if name and column in self.wanted
    }
    self._fallback = fallback

  def find(self, names: Sequence[str]) -> dict[str, list[int]]:
    """Returns the positions of the names of each wanted column."""
    plain = [name.strip().strip('"\ufeff') for name in names]
    given = {
      column: [i for i, x in enumerate(plain) if x == name]
      for column, name in self._named.items()
    }
    taken = {i for positions in given.values() for i in positions}
    open_columns: dict[str, list[int]] = {}
    for i, raw in enumerate(names):
      if i not in taken:
        open_columns.setdefault(column_of(raw), []).append(i)
    found = {}
    for column in (*self.required, *self.optional):
      positions = given.get(column, [])
      if not positions and self._is_open(column):
        positions = open_columns.get(column_of(column), [])
      if positions:
        found[column] = positions
    return found

  def _is_open(self, column: str) -> bool:
    """Returns whether the usual names of a column are accepted."""
    return column not in self._named or column in self._fallback

  def select(
    self, path: Path, names: Sequence[str]
  ) -> tuple[dict[str, int], list[str]]:
    """Returns the positions of the columns in a file, and notes for the user.

    Raises:
      DataError: A required or named column is missing; or two names are of
        the same column, and neither is equal to the column's own name.
    """
    positions = {}
    found = self.find(names)
    for column in (*self.required, *self.optional):
      candidates = found.get(column, [])
      candidates = exact(names, candidates, column) or candidates
      if len(candidates) > 1:
        shown = ' and '.join(item_text.shown(names[i]) for i in candidates[:2])
        raise DataError(
          f'{path} has columns {shown}, and either could be {column}: '
          f'{self.remedy(column)}'
        )
      if candidates:
        positions[column] = candidates[0]
    self.require(path, names, positions)
    return positions, self.unused(path, names, positions)

  def remedy(self, column: str) -> str:
    """Returns what to do if two names could be of the same column."""
    return (
      f'choose one with config.dataset.columns.{column}, name one of them '
      f'{column!r}, or remove one'
    )

  def unused(
    self, path: Path, names: Sequence[str], positions: Mapping[str, int]
  ) -> list[str]:
    """Returns a note about each column that is not read, with the reason."""
    return [
      f'{path.name}: column {item_text.shown(raw)} is not read, because there '
      f'is a column {item_text.shown(names[positions[column]])}'
      for i, raw in enumerate(names)
      if (column := column_of(raw)) in positions and i not in positions.values()
    ]

  def require(
    self, path: Path, names: Sequence[str], columns: Collection[str]
  ) -> None:
    """Raises DataError if `columns` lacks a required or a named column."""
    missing = [name for name in self.required if name not in columns]
    unnamed = [x for x in self._named if x not in columns]
    if not missing and not unnamed:
      return
    shown = ', '.join(item_text.shown(name) for name in names[:_MOST_SHOWN])
    shown += ', ...' if len(names) > _MOST_SHOWN else ''
    if unnamed:
      name = item_text.shown(self._named[unnamed[0]])
      raise DataError(
        f'{path} has no column {name}, which config.dataset.columns.'
        f'{unnamed[0]} names: its columns are {shown}; correct the setting'
      )
    hint = (
      f'rename them or set config.dataset.columns.{missing[0]} (docs/data.md '
      'lists other names that are accepted)'
    )
    if byte_streams.suffix(path) in ('.csv', '.tsv', '.txt'):
      hint += ', or add a first line that names the columns'
    raise DataError(
      f'{path} has no column {" and no column ".join(missing)}: it needs '
      f'{", ".join(self.required)}, and its columns are {shown}; {hint}'
    )


def exact(
  names: Sequence[str], positions: Iterable[int], column: str
) -> list[int]:
  """Returns the positions of the names that equal the column's own name.

  If no name is equal, the function returns the positions of the names that
  differ from the column's own name only in case.
  """
  same_word = [i for i in positions if names[i].strip().casefold() == column]
  return [i for i in same_word if names[i] == column] or same_word
