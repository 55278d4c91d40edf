"""Looks up ids of items or users, and suggests similar ones."""

import bisect
from collections.abc import Iterable, Sequence
import difflib
import functools
from typing import Any

from tiger_jax.errors import UsageError
from tiger_jax.serving.arguments import item_ids, shown

_NUM_NEAREST = 3
# Ids compared with an unknown one, on each side of its place in sorted order.
_NUM_NEIGHBORS = 100
# Longer ids are not compared.
_LONGEST = 100


class KnownIds:
  """Maps ids of items or users to rows."""

  def __init__(self, ids: Sequence[str], kind: str, place: str):
    """Takes the ids, which are indexed at the first use.

    Args:
      ids: All known ids, in the order of their rows.
      kind: The name of what they identify, for error messages.
      place: The name of what holds them, for error messages.
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
      ordered: Whether the order matters, so that sets are refused.

    Raises:
      UsageError: See `arguments.item_ids`; or an id is not known. The error
        then names up to three similar ids.
    """
    ids = item_ids(ids, where, ordered)
    unknown = self.unknown(ids)
    if not unknown:
      return [self._rows[one] for one in ids]
    hint = f'ids look like {shown(self._ids[0])}'
    if nearest := self.nearest(unknown[0]):
      hint = f'did you mean {" or ".join(map(shown, nearest))}?'
    share = f' ({len(unknown)} of {len(ids)} in {where} are unknown)'
    raise UsageError(
      f'no {self._kind} {shown(unknown[0])} in {self._place}'
      f'{share if where != self._kind else ""}: {hint}'
    )

  def unknown(self, ids: Sequence[str]) -> list[str]:
    """Returns the unknown ones of several ids, in their order."""
    return [one for one in ids if one not in self._rows]

  def nearest(self, unknown: str) -> list[str]:
    """Returns up to three similar ids, the most similar first.

    There may be millions of ids. Only the neighbors in sorted order,
    and variants with other spaces, case or leading zeros, are compared.
    """
    if len(unknown) > _LONGEST:
      return []
    bare = unknown.strip()
    width = len(self._ids[0])
    forms = (bare, bare.lower(), bare.upper(), bare.lstrip('0'),
             bare.zfill(width))  # fmt: skip
    similar = [form for form in forms if form in self._rows]
    place = bisect.bisect(self._sorted, bare)
    start = max(0, place - _NUM_NEIGHBORS)
    neighbors = self._sorted[start : place + _NUM_NEIGHBORS]
    short = [one for one in neighbors if len(one) <= _LONGEST]
    similar += difflib.get_close_matches(bare, short, _NUM_NEAREST)
    return list(dict.fromkeys(similar))[:_NUM_NEAREST]

  @functools.cached_property
  def _rows(self) -> dict[str, int]:
    return {one: row for row, one in enumerate(self._ids)}

  @functools.cached_property
  def _sorted(self) -> list[str]:
    return sorted(self._ids)
