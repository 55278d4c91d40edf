"""The section of the item vectors."""

import dataclasses

from tiger_jax.config.checks import (
  require_at_most,
  require_one_of,
  require_positive,
)


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
  """How an item's sentence becomes a vector.

  Attributes:
    encoder: `sentence-transformers`, `tfidf-svd` or `precomputed`.
    model: Hub name or local folder, for `sentence-transformers`. A commit or
      tag of the hub may follow the name, as in `name@revision`.
    dim: Width of the vectors that `tfidf-svd` makes.
    path: A `.npy` of `[items, dim]`, for `precomputed`.
    ids_path: A JSON list of the item id of each row of `path`.
  """

  encoder: str = 'sentence-transformers'
  model: str = 'sentence-transformers/sentence-t5-base'
  dim: int = 64
  path: str = ''
  ids_path: str = ''

  def __post_init__(self):
    """Checks the values."""
    encoders = ('sentence-transformers', 'tfidf-svd', 'precomputed')
    require_one_of(self, 'encoder', encoders)
    require_positive(self, 'dim')
    require_at_most(self, 2**16, 'dim')
