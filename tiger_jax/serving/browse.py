"""Finds items of the catalog by title, by Semantic ID and by similarity."""

from typing import Any

from jaxtyping import Float32, Int
import numpy as np

from tiger_jax.serving import arguments
from tiger_jax.serving.recommendation import Item, SimilarItem
from tiger_jax.serving.snapshot import Snapshot

# The number of vectors that are copied at a time.
_PART = 4096


def item_of(snapshot: Snapshot, semantic_id: Any) -> str | None:
  """Returns the id of the item with a Semantic ID; None if there is none.

  Raises:
    UsageError: The Semantic ID is not a list of integers.
  """
  codes = [
    arguments.whole_number(code, f'semantic_id[{level}]', 0)
    for level, code in enumerate(
      arguments.listed(semantic_id, 'semantic_id', 'codes')
    )
  ]
  if len(codes) != snapshot.codes.shape[1]:
    return None
  same = (snapshot.codes[snapshot.rows] == np.array([codes])).all(axis=1)
  found = snapshot.rows[same]
  return snapshot.ids[found[0]] if len(found) else None


def similar_items(snapshot: Snapshot, item: Any, k: Any) -> list[SimilarItem]:
  """Returns the items that share the longest prefix with an item.

  Among the items that share a prefix of the same length, the items with the
  greatest cosine similarity come first. Without vectors, they are in row order.

  Raises:
    UsageError: There is no such item, or `k` is out of range.
  """
  row = snapshot.row(item)
  k = arguments.whole_number(k, 'k', 0)
  if not k:
    return []
  rows = snapshot.rows[snapshot.rows != row]
  same = snapshot.codes[rows] == snapshot.codes[row][None]
  num_shared = np.cumprod(same, axis=1).sum(axis=1)
  # Drops the items that share fewer codes than the k-th item. If fewer than k
  # items share the first code, all items remain.
  if k < len(rows):
    shortest = np.partition(num_shared, len(rows) - k)[len(rows) - k]
    rows, num_shared = (x[num_shared >= shortest] for x in (rows, num_shared))
  similarity: list[float | None] = [None] * len(rows)
  order = np.argsort(-num_shared, kind='stable')
  if snapshot.model.vectors is not None:
    cosine = _cosine(snapshot, rows, row)
    order = np.lexsort((rows, -cosine, -num_shared))
    similarity = cosine.tolist()
  return [
    SimilarItem(*snapshot.item(int(rows[i])), int(num_shared[i]), similarity[i])
    for i in order[:k].tolist()
  ]


def _cosine(
  snapshot: Snapshot, rows: Int[np.ndarray, ' n'], row: int
) -> Float32[np.ndarray, ' n']:
  """Returns the cosine similarity of rows to one row.

  The vectors are copied in parts to bound the memory.
  """
  own = _directions(snapshot.vectors(np.array([row])))[0]
  cosine = np.empty(len(rows), np.float32)
  for start in range(0, len(rows), _PART):
    part = slice(start, start + _PART)
    vectors = _directions(snapshot.vectors(rows[part]))
    cosine[part] = np.einsum('nd,d->n', vectors, own)
  return cosine


def _directions(
  vectors: Float32[np.ndarray, 'n dim'],
) -> Float32[np.ndarray, 'n dim']:
  """Scales vectors to length 1; zero vectors stay zero."""
  # The squares of large values would overflow in float32.
  largest = np.abs(vectors).max(axis=1, keepdims=True)
  vectors = vectors / np.where(largest > 0, largest, 1)
  norms = np.sqrt(np.einsum('nd,nd->n', vectors, vectors))[:, None]
  return vectors / np.where(norms > 0, norms, 1)


def search_titles(snapshot: Snapshot, text: Any, k: Any) -> list[Item]:
  """Returns the items whose title or id matches a text, best first.

  An item matches if each word of the text is the beginning of a word of its
  title, or if its id begins with the text. Case is ignored.
  The item whose id is the text comes first, then other items whose id matches,
  then items whose title matches. Within each of these groups, the most popular
  items come first. An empty text matches no item.

  Raises:
    UsageError: `text` is not text, or `k` is out of range.
  """
  k = arguments.whole_number(k, 'k', 1)
  found: dict[int, None] = {}
  for row in snapshot.searchable.find(arguments.text(text, 'text')):
    if snapshot.is_listed[row]:
      found[row] = None
      if len(found) == k:
        break
  return [snapshot.item(row) for row in found]
