"""Looks up item or user ids, and suggests ids similar to an unknown one."""

import bisect
from collections.abc import Iterable, Sequence
import difflib
import functools
from typing import Any

from tiger_jax.errors import UsageError
from tiger_jax.serving.arguments import item_ids, shown

_NUM_NEAREST = 3
# The minimum similarity of a suggestion by `difflib`, from 0 to 1.
_MIN_SIMILARITY = 0.5
# The number of known ids to compare on each side of an unknown id, in sorted
# order.
_NUM_NEIGHBORS = 100
# The maximum length of compared ids.
_MAX_LENGTH = 100


class KnownIds:
  """Maps item or user ids to rows."""

  def __init__(self, ids: Sequence[str], kind: str, place: str):
    """Takes the ids; the index is built on first use.

    Args:
      ids: All known ids, in row order.
      kind: The kind of the ids, such as 'item', for messages.
      place: The name of the source, such as 'the catalog', for messages.
    """
    self._ids = ids
    self._kind = kind
    self._place = place

  def rows(
    self, ids: Iterable[Any], where: str, ordered: bool = True
  ) -> list[int]:
    """Returns the rows of ids.

    Args:
      ids: Text or integers, see `arguments.item_ids`.
      where: The name of the argument, for error messages.
      ordered: Whether the order matters. If so, sets are rejected.

    Raises:
      UsageError: See `arguments.item_ids`; or an id is unknown. The message
        then suggests up to three similar ids.
    """
    ids = item_ids(ids, where, ordered)
    unknown = self.unknown(ids)
    if not unknown:
      return [self._rows[known] for known in ids]
    hint = f'ids look like {shown(self._ids[0])}'
    if nearest := self.nearest(unknown[0]):
      hint = f'did you mean {" or ".join(map(shown, nearest))}?'
    share = f' ({len(unknown)} of {len(ids)} ids in {where} are unknown)'
    raise UsageError(
      f'no {self._kind} {shown(unknown[0])} in {self._place}'
      f'{share if len(ids) > 1 else ""}: {hint}'
    )

  def unknown(self, ids: Sequence[str]) -> list[str]:
    """Returns the unknown ids among `ids`, in the same order."""
    return [item for item in ids if item not in self._rows]

  def nearest(self, unknown: str) -> list[str]:
    """Returns up to three similar ids, most similar first.

    There may be millions of ids, so the unknown id is compared only with its
    neighbors in sorted order. Variants of the unknown id are also looked up:
    without surrounding spaces, in lower or upper case, and with fewer or more
    leading zeros.
    """
    if len(unknown) > _MAX_LENGTH:
      return []
    stripped = unknown.strip()
    width = len(self._ids[0])
    variants = (
      stripped,
      stripped.lower(),
      stripped.upper(),
      stripped.lstrip('0'),
      stripped.zfill(width),
      _pad_digits(stripped, width),
    )
    similar = [variant for variant in variants if variant in self._rows]
    place = bisect.bisect(self._sorted, stripped)
    start = max(0, place - _NUM_NEIGHBORS)
    neighbors = self._sorted[start : place + _NUM_NEIGHBORS]
    compared = [x for x in neighbors if len(x) <= _MAX_LENGTH]
    similar += difflib.get_close_matches(
      stripped, compared, _NUM_NEAREST, _MIN_SIMILARITY
    )
    return list(dict.fromkeys(similar))[:_NUM_NEAREST]

  @functools.cached_property
  def _rows(self) -> dict[str, int]:
    return {known: row for row, known in enumerate(self._ids)}

  @functools.cached_property
  def _sorted(self) -> list[str]:
    return sorted(self._ids)


def _pad_digits(text: str, width: int) -> str:
  """Returns `P12` as `P0012` for a width of 5."""
  prefix = text.rstrip('0123456789')
  return prefix + text[len(prefix) :].zfill(width - len(prefix))
