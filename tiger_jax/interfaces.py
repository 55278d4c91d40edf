"""The dimension names, and the array types that public functions share.

Dimension names in signatures and einsum strings:

  b      users (or requests) in a batch
  t      items in a padded history
  s      tokens in an encoder input: `t * levels`, plus 1 with a user token
  l      levels: codes in one Semantic ID
  m      beams
  v      codes at one level
  d      model width
  h      attention heads
  k      head width in attention; number of results elsewhere
  items  rows of the catalog
  dim    width of an item embedding
  z      width of the RQ-VAE's latent space

An item is always identified by its row in the catalog; -1 means no item.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int
import numpy as np

Codes = Int[Array, 'items l']
Tokens = Float[Array, 'b s d']


class Batch(NamedTuple):
  """The input of every model.

  Attributes:
    history: Item rows `[b, t]`, oldest first, padded on the right with -1. In a
      packed batch, several histories follow each other in one row.
    user: User rows `[b]`; -1 for an unknown user.
    target: Item rows `[b]` to predict; -1 in a padding row of the batch. In a
      packed batch, `[b, t]`: the target of each history, at the position of the
      last item of the history, and -1 elsewhere. Only `Tiger.every_target` and
      `next_items` take packed batches.
  """

  history: Int[Array, 'b t'] | Int[np.ndarray, 'b t']
  user: Int[Array, ' b'] | Int[np.ndarray, ' b']
  target: Int[Array, 'b *t'] | Int[np.ndarray, 'b *t']

  @property
  def is_packed(self) -> bool:
    """Whether a row holds several histories."""
    return self.target.ndim == self.history.ndim


class Recommendations(NamedTuple):
  """The output of every retriever, best first.

  Attributes:
    items: Item rows `[b, k]`; -1 where `valid` is false.
    scores: Model scores `[b, k]`; log-probabilities for TIGER.
    valid: Whether each entry `[b, k]` holds an item.
  """

  items: Int[Array, 'b k']
  scores: Float[Array, 'b k']
  valid: Bool[Array, 'b k']


@runtime_checkable
class Retriever(Protocol):
  """The interface of every model that recommends, TIGER or baseline."""

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: Any = None
  ) -> Recommendations:
    """Returns the k best items for each history.

    Args:
      params: The model's parameters.
      batch: Histories; targets are ignored.
      k: The number of items. If fewer are available, the remaining entries are
        marked invalid.
      lists: `retrieval.filters.ItemLists`: the items that each request allows
        or excludes. None allows the whole catalog.
    """
    ...
