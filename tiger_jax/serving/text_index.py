"""Finds the rows whose text contains given parts."""

from collections.abc import Iterable, Iterator, Sequence
import copy
import re

from jaxtyping import Int
import numpy as np

# The characters between the words of a title.
_NO_WORD = re.compile(r'[\W_]+')


def words(text: str) -> list[str]:
  """Returns the words of a text in lower case."""
  return _NO_WORD.sub(' ', text.casefold()).split()


class TextIndex:
  """The texts of all rows, one line for each row, in one string.

  Searching this string with `str.find` is faster than a loop over the rows.
  """

  def __init__(self, order: Int[np.ndarray, ' rows'], lines: Iterable[str]):
    """Takes the lines in the order in which `rows` returns them.

    Args:
      order: The row of each line.
      lines: The lines, without line breaks.
    """
    lines = [f'\n{line}' for line in lines]
    self._order = order
    self._ends = np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
    self._text = ''.join(lines) + '\n'

  def extended(self, other: 'TextIndex') -> 'TextIndex':
    """Returns this index, extended by the lines of another index.

    Row i of `other` becomes row n + i, where n is the number of rows of this
    index. Its lines come after those of this index.
    """
    result = copy.copy(self)
    result._order = np.concatenate(
      [self._order, len(self._order) + other._order]
    )
    result._ends = np.concatenate(
      [self._ends, len(self._text) - 1 + other._ends]
    )
    result._text = self._text[:-1] + other._text
    return result

  def rows(self, parts: Sequence[str]) -> Iterator[int]:
    """Yields the rows whose lines contain all of the parts, in order.

    Each line begins with a line break. A part may begin or end with a line
    break, to match the beginning or the end of a line.
    """
    text, start = self._text, 0
    while True:
      places = [text.find(part, start) for part in parts]
      if not places or min(places) < 0:
        return
      last = max(places)
      # The beginning of the line with the last match. No earlier line contains
      # all of the parts.
      begin = text.rfind('\n', 0, last + 1)
      if begin <= min(places):
        line = np.searchsorted(self._ends, begin, side='right')
        yield int(self._order[line])
        begin = text.find('\n', begin + 1)
      start = begin


class ItemText:
  """The ids and the titles of a catalog, for `browse.search_titles`."""

  def __init__(
    self,
    ids: Sequence[str],
    titles: Sequence[str],
    counts: Int[np.ndarray, ' rows'],
  ):
    """Takes the id, the title and the number of events of every row."""
    order = np.argsort(-counts, kind='stable')
    rows = order.tolist()
    self._ids = TextIndex(
      order, (ids[row].casefold().replace('\n', ' ') for row in rows)
    )
    self._titles = TextIndex(
      order, (' ' + ' '.join(words(titles[row])) for row in rows)
    )

  def extended(self, ids: Sequence[str], titles: Sequence[str]) -> 'ItemText':
    """Returns the text of a catalog with more items, which have no events."""
    new = ItemText(ids, titles, np.zeros(len(ids), np.int64))
    result = copy.copy(self)
    result._ids = self._ids.extended(new._ids)
    result._titles = self._titles.extended(new._titles)
    return result

  def find(self, text: str) -> Iterator[int]:
    """Yields the matching rows, best first. A row may occur several times."""
    text = ' '.join(text.casefold().split())
    if not text:
      return
    yield from self._ids.rows([f'\n{text}\n'])
    yield from self._ids.rows([f'\n{text}'])
    yield from self._titles.rows(
      [f' {word}' for word in dict.fromkeys(words(text))]
    )
