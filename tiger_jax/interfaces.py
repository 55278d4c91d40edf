"""The glossary of dimensions, and the array types that public code speaks.

Dimensions, as they appear in every signature and einsum string:

  b      users (or requests) in a batch
  t      items in a padded history
  s      tokens in an encoder input, `t * levels` (+1 with a user token)
  l      levels: codes in one Semantic ID
  m      beams
  v      codes at one level
  d      model width
  h      attention heads
  k      head width in attention; results asked for elsewhere
  items  rows of the catalogue
  dim    width of an item embedding
  z      width of the RQ-VAE's latent space

Items are always named by their row in the catalogue; -1 stands for no item.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int
import numpy as np

Codes = Int[Array, 'items l']
Tokens = Float[Array, 'b s d']


class Batch(NamedTuple):
  """What every model is fed.

  Attributes:
    history: Item rows `[b, t]`, oldest first, padded on the right with -1.
    user: User rows `[b]`; -1 where the user is not known.
    target: Item rows `[b]` to predict; -1 marks a row that only fills the
      batch.
  """

  history: Int[Array, 'b t'] | Int[np.ndarray, 'b t']
  user: Int[Array, ' b'] | Int[np.ndarray, ' b']
  target: Int[Array, ' b'] | Int[np.ndarray, ' b']


class Recommendations(NamedTuple):
  """What every retriever answers, best first.

  Attributes:
    items: Item rows `[b, k]`; -1 where `valid` is false.
    scores: The model's score `[b, k]`, log-probability for TIGER.
    valid: Whether the entry `[b, k]` is an item at all.
  """

  items: Int[Array, 'b k']
  scores: Float[Array, 'b k']
  valid: Bool[Array, 'b k']


@runtime_checkable
class Retriever(Protocol):
  """What every model offers, TIGER or baseline, to all that asks it."""

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: Any = None
  ) -> Recommendations:
    """Returns the k best items of each history.

    Args:
      params: The model's parameters.
      batch: Histories; targets are not looked at.
      k: How many. Where fewer may be had, the rest is marked invalid.
      lists: `retrieval.filters.ItemLists`: items that each request may or
        may not get. None for all of the catalogue.
    """
    ...
