"""The dimension names, and the array types that public functions share.

Dimension names in signatures and einsum strings:

  b      users (or requests) in a batch
  t      items in a padded history
  f      items in a padded list of allowed or excluded items
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

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

Codes = Int[Array, 'items l']
Tokens = Float[Array, 'b s d']

# Lists are padded to one of these lengths, so that few programs are compiled.
_LENGTHS = tuple(32 * 8**i for i in range(9))
# The maximum number of entries in all lists of one search. Each entry takes
# about 80 bytes.
_MAX_LISTED = 2**21


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


class ItemLists(NamedTuple):
  """A list of items for each request.

  Attributes:
    rows: Item rows `[b, f]`, padded with -1. Rows that are not in the catalog
      are ignored.
    allow: Whether each request `[b]` allows only its listed items. If False, it
      excludes them.
  """

  rows: Int[Array, 'b f'] | Int[np.ndarray, 'b f']
  allow: Bool[Array, ' b'] | Bool[np.ndarray, ' b']

  @classmethod
  def of(
    cls,
    deny: Sequence[Iterable[int]],
    allow: Sequence[Iterable[int] | None] | None = None,
  ) -> 'ItemLists':
    """Builds the lists of all requests.

    Args:
      deny: The rows that each request excludes, even if they are in `allow`.
      allow: The only rows that each request allows; None allows all rows.
    """
    rows = []
    allow = [None] * len(deny) if allow is None else allow
    for denied, allowed in zip(deny, allow, strict=True):
      denied = set(denied)
      rows.append(denied if allowed is None else set(allowed) - denied)
    longest = max(map(len, rows), default=0)
    table = np.full((len(rows), _width(longest)), -1, np.int32)
    for row, listed in zip(table, rows, strict=True):
      row[: len(listed)] = sorted(listed)
    return cls(table, np.array([x is not None for x in allow]))

  @staticmethod
  def max_requests(longest: int) -> int:
    """Returns the maximum number of requests in one search.

    The limit bounds the memory of a search. `longest` is the length of the
    longest list.
    """
    return max(1, _MAX_LISTED // _width(longest))

  def permits(self, rows: Int[Array, 'b n']) -> Bool[Array, 'b n']:
    """Returns whether each request permits each of the given rows."""
    listed = jnp.sort(jnp.asarray(self.rows), axis=1)
    index = jax.vmap(jnp.searchsorted)(listed, rows)
    nearest = jnp.take_along_axis(listed, index, axis=1, mode='clip')
    return (nearest == rows) == jnp.asarray(self.allow)[:, None]


@runtime_checkable
class Retriever(Protocol):
  """The interface of every model that recommends, TIGER or baseline."""

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> Recommendations:
    """Returns the k best items for each history.

    Args:
      params: The model's parameters.
      batch: Histories; targets are ignored.
      k: The number of items. If fewer are available, the remaining entries are
        marked invalid.
      lists: The items that each request allows or excludes. None allows the
        whole catalog.
    """
    ...


def _width(longest: int) -> int:
  return next(w for w in _LENGTHS if w >= longest)
