"""The config section `embedding`."""

import dataclasses

from tiger_jax.config import template
from tiger_jax.config.checks import (
  require_at_most,
  require_one_of,
  require_positive,
)


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
  """The encoder that turns the text of each item into a vector.

  Attributes:
    encoder: `sentence-transformers`, `tfidf-svd`, or `precomputed` to read the
      vectors from a file.
    model: For `sentence-transformers`: a model of the Hugging Face Hub, or a
      local folder. A revision may follow the name, as in `name@revision`.
    dim: For `tfidf-svd`: width of the vectors.
    path: For `precomputed`: a `.npy` file of shape `[items, dim]`.
    ids_path: For `precomputed`: a JSON list with the item id of each row of
      `path`.
    template: The form of an item's text, with column names of the items file in
      braces, as in `{title}. {brand}. {category}`. If it is empty, the text
      has the name and the content of every field, as in the paper.
  """

  encoder: str = 'sentence-transformers'
  model: str = 'sentence-transformers/sentence-t5-base'
  dim: int = 64
  path: str = ''
  ids_path: str = ''
  template: str = ''

  def __post_init__(self):
    """Checks the values."""
    encoders = ('sentence-transformers', 'tfidf-svd', 'precomputed')
    require_one_of(self, 'encoder', encoders)
    require_positive(self, 'dim')
    require_at_most(self, 2**16, 'dim')
    if self.template:
      template.parse(self.template)
