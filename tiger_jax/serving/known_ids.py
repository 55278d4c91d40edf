"""Looks up item ids, and suggests similar ones for an unknown id."""

import bisect
from collections.abc import Iterable
import difflib
import functools
from typing import Any

from tiger_jax.data.dataset import Dataset
from tiger_jax.errors import UsageError
from tiger_jax.serving.arguments import item_ids, shown

_NUM_NEAREST = 3
# Ids compared with an unknown one, on each side of its place in sorted order.
_NUM_NEIGHBORS = 100
# Longer ids are not compared.
_LONGEST = 100


class KnownIds:
  """Maps the item ids of a catalogue to rows."""

  def __init__(self, dataset: Dataset):
    """Reads the catalogue of the dataset."""
    self._items = dataset.items

  def rows(
    self, ids: Iterable[Any], where: str, ordered: bool = True
  ) -> list[int]:
    """Returns the rows of items.

    Args:
      ids: Item ids, see `arguments.item_ids`.
      where: The name of the argument, for error messages.
      ordered: Whether the order matters, so that sets are refused.

    Raises:
      UsageError: See `arguments.item_ids`; or the catalogue lacks an id. The
        error then names up to three similar ids.
    """
    rows, ids = self._items.rows, item_ids(ids, where, ordered)
    unknown = [item for item in ids if item not in rows]
    if not unknown:
      return [rows[item] for item in ids]
    nearest = self.nearest(unknown[0])
    hint = f'ids look like {shown(self._items.ids[0])}'
    if nearest:
      hint = f'did you mean {" or ".join(map(shown, nearest))}?'
    raise UsageError(
      f'no item {shown(unknown[0])} in the catalogue ({len(unknown)} of '
      f'{len(ids)} in {where} are unknown): {hint}'
    )

  def nearest(self, item_id: str) -> list[str]:
    """Returns up to three similar ids, the most similar first.

    A catalogue may have millions of ids. Only its neighbors in sorted order,
    and variants with other spaces, case or leading zeros, are compared.
    """
    if len(item_id) > _LONGEST:
      return []
    bare = item_id.strip()
    width = len(self._items.ids[0])
    forms = (bare, bare.lower(), bare.upper(), bare.lstrip('0'),
             bare.zfill(width))  # fmt: skip
    similar = [form for form in forms if form in self._items.rows]
    place = bisect.bisect(self._sorted, bare)
    start = max(0, place - _NUM_NEIGHBORS)
    neighbors = self._sorted[start : place + _NUM_NEIGHBORS]
    short = [item for item in neighbors if len(item) <= _LONGEST]
    similar += difflib.get_close_matches(bare, short, _NUM_NEAREST)
    return list(dict.fromkeys(similar))[:_NUM_NEAREST]

  @functools.cached_property
  def _sorted(self) -> list[str]:
    return sorted(self._items.ids)
