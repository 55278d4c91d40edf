"""The answer to a request for recommendations."""

from typing import NamedTuple


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
    proven: Whether it is proven that no item outside the list ranks as high,
      up to float32 rounding. A search with more beams then returns the same
      items up to this one. If a temperature is set, items rank by their score
      plus random noise. See `Beams.exact_k`.
  """

  item_id: str
  title: str
  score: float
  semantic_id: tuple[int, ...]
  proven: bool


class RecommendationList(list[Recommendation]):
  """A list of recommendations, best first.

  Attributes:
    unknown: The ids of the history that are not in the catalog, if
      `strict=False` was set. They were ignored.
  """

  unknown: tuple[str, ...] = ()
