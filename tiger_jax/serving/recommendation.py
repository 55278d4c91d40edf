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
    item_id: The shop's own id.
    title: The display title.
    score: Log-probability of the item as the next one.
    semantic_id: Its codes.
    proven: Whether a search of any width would return this item and those
      before it, up to float32 rounding: no other item ranks as high. Ranks of
      drawn items include the noise of the draw. See `Beams.exact_k`.
  """

  item_id: str
  title: str
  score: float
  semantic_id: tuple[int, ...]
  proven: bool


class Recommendations(list[Recommendation]):
  """A list of recommendations, best first.

  Attributes:
    unknown: The ids of the history that the catalog does not have, which
      `strict=False` ignores.
  """

  unknown: tuple[str, ...] = ()
