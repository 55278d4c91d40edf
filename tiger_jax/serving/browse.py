"""Finds items of the catalog by title, by Semantic ID and by similarity."""

import heapq
from typing import Any

import numpy as np

from tiger_jax.serving import arguments
from tiger_jax.serving.recommendation import Item, SimilarItem
from tiger_jax.serving.snapshot import Snapshot


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
  k = arguments.whole_number(k, 'k', 1)
  rows = snapshot.rows[snapshot.rows != row]
  same = snapshot.codes[rows] == snapshot.codes[row][None]
  num_shared = np.cumprod(same, axis=1).sum(axis=1)
  # Vectors are read only for the items that can be among the first k.
  if k < len(rows):
    shortest = np.partition(num_shared, len(rows) - k)[len(rows) - k]
    rows, num_shared = (x[num_shared >= shortest] for x in (rows, num_shared))
  similarity: list[float | None] = [None] * len(rows)
  order = np.argsort(-num_shared, kind='stable')
  if snapshot.model.vectors is not None:
    vectors = snapshot.vectors(np.append(rows, row)).astype(np.float64)
    norms = np.sqrt(np.square(vectors).sum(axis=1))
    vectors /= np.where(norms > 0, norms, 1)[:, None]
    cosine = vectors[:-1] @ vectors[-1]
    order = np.lexsort((rows, -cosine, -num_shared))
    similarity = cosine.tolist()
  return [
    SimilarItem(*snapshot.item(int(rows[i])), int(num_shared[i]), similarity[i])
    for i in order[:k].tolist()
  ]


def search_titles(snapshot: Snapshot, text: Any, k: Any) -> list[Item]:
  """Returns the items whose title or id matches a text, best first.

  An item matches if each word of the text is the beginning of a word of its
  title, or if its id begins with the text. Upper and lower case are the same.
  Items whose id matches come first, then the most popular items.

  Raises:
    UsageError: The text is not a text, or `k` is out of range.
  """
  k = arguments.whole_number(k, 'k', 1)
  text = ' '.join(arguments.text(text, 'text').casefold().split())
  words = [f' {word}' for word in text.split()]
  found = []
  for row in snapshot.rows.tolist():
    item, title = snapshot.ids[row].casefold(), snapshot.searchable[row]
    matches_id = item.startswith(text)
    if matches_id or all(word in title for word in words):
      rank = (item != text, not matches_id, -int(snapshot.counts[row]), row)
      found.append(rank)
  return [snapshot.item(row) for *_, row in heapq.nsmallest(k, found)]
