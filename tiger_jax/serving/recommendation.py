"""The values that the Python API takes and returns."""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple


class Recommendation(NamedTuple):
  """One recommended item.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> best, second = shop.recommend(['P0012', 'P0345'], k=2)
    >>> best.score >= second.score
    True

  Attributes:
    item_id: The id of the item in the shop.
    title: The display title.
    score: The log-probability that this item is the next one.
    semantic_id: The codes of the item.
    proven: Whether the search has proven that no item outside the list ranks as
      high as this item, up to float32 rounding. A search with more beams then
      returns the same items up to this one. If a temperature is set, items
      rank by their score plus random noise. See `Beams.exact_k`.
  """

  item_id: str
  title: str
  score: float
  semantic_id: tuple[int, ...]
  proven: bool


class RecommendationList(list[Recommendation]):
  """A list of recommendations, best first.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> items = shop.recommend([], k=2)
    >>> len(items), items.fallback, items.catalog_version
    (2, 'popular', 1)

  Attributes:
    unknown: The ids of the history that were never in the catalog and were
      therefore ignored. Empty unless `strict=False` was set.
    fallback: 'popular' if the list holds the most popular items because the
      history was empty. Otherwise None.
    catalog_version: The version of the catalog that all items belong to, see
      `Recommender.catalog_version`.
    model_version: The version of the model, see `Recommender.model_version`.
  """

  unknown: tuple[str, ...] = ()
  fallback: str | None = None
  catalog_version: int = 0
  model_version: str = ''


class Item(NamedTuple):
  """An item of the catalog.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> item = shop.item('P0012')
    >>> shop.item_of(item.semantic_id) == item.item_id
    True

  Attributes:
    item_id: The id of the item in the shop.
    title: The display title.
    semantic_id: The codes of the item.
  """

  item_id: str
  title: str
  semantic_id: tuple[int, ...]


class SimilarItem(NamedTuple):
  """An item that is similar to another item.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> first, second = shop.similar_items('P0012', k=2)
    >>> first.num_shared >= second.num_shared
    True

  Attributes:
    item_id: The id of the item in the shop.
    title: The display title.
    semantic_id: The codes of the item.
    num_shared: The number of leading codes that both items share.
    similarity: The cosine similarity of the item vectors; None if there are no
      vectors.
  """

  item_id: str
  title: str
  semantic_id: tuple[int, ...]
  num_shared: int
  similarity: float | None


@dataclasses.dataclass(frozen=True)
class NewItem:
  """An item to add to the catalog.

  Example:
    >>> import numpy as np
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> new = tiger_jax.NewItem('kettle', 'New Kettle', vector=np.ones(64))
    >>> shop.add_items([new])[0].item_id
    'kettle'

  Attributes:
    id: The id of the item, as text or an integer.
    title: The display title, which is also the first part of the item's text.
    text: The remaining text of the item, by column: `price`, `brand`,
      `categories` and `description`. None if the title is the whole text. Runs
      with precomputed vectors do not support text.
    vector: The vector of the item, made by the encoder of the run. If None, the
      encoder of the run encodes the title and the text.
  """

  id: Any
  title: str = ''
  text: Mapping[str, Any] | None = None
  vector: Any = None
