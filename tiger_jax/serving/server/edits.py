"""Catalog changes, with the error codes of the server."""

from collections.abc import Sequence

from tiger_jax.serving.recommendation import Item, NewItem
from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.snapshot import Snapshot


def add_items(shop: Recommender, items: Sequence[NewItem]) -> list[Item]:
  """Adds items and returns them.

  Raises:
    Failure: An id is already in the catalog.
    UsageError: An item is not valid.
  """
  if existing := _listed(shop.snapshot, [x.id for x in items]):
    raise Failure(
      'conflict',
      f'item {_shown(existing[0])} exists already: choose another id, or '
      'remove the item first',
    )
  return shop.add_items(items)


def remove_items(shop: Recommender, ids: Sequence[str]) -> None:
  """Removes items.

  Raises:
    Failure: There is no such item.
    UsageError: No item would be left.
  """
  _check_listed(shop.snapshot, ids)
  shop.remove_items(ids)


def update_titles(shop: Recommender, titles: dict[str, str]) -> None:
  """Changes the titles of items.

  Raises:
    Failure: There is no such item.
    UsageError: A title is empty.
  """
  _check_listed(shop.snapshot, list(titles))
  shop.update_titles(titles)


def _listed(snapshot: Snapshot, ids: Sequence[str]) -> list[str]:
  """Returns the ids of items that can be recommended now."""
  unknown = set(snapshot.known.unknown(ids))
  known = [x for x in ids if x not in unknown]
  rows = snapshot.known.rows(known, 'ids')
  return [
    x for x, row in zip(known, rows, strict=True) if snapshot.is_listed[row]
  ]


def _check_listed(snapshot: Snapshot, ids: Sequence[str]) -> None:
  listed = set(_listed(snapshot, ids))
  if missing := [x for x in ids if x not in listed]:
    raise Failure(
      'unknown_item',
      f'item {_shown(missing[0])} is not in the catalog: name items of the '
      'catalog',
    )


def _shown(item: str) -> str:
  return repr(item[:60])
