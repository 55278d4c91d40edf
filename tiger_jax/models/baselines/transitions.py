"""An untrained baseline that counts item-to-item transitions."""

from typing import Any, NamedTuple

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel

# The weights of the most recent items of a history, most recent first.
WEIGHTS = (1.0, 0.5, 0.3, 0.2, 0.1)
# The number of successors that are added per loop iteration.
_CHUNK = 128
# The weight of popularity. It is so small that popularity only orders items
# with equal transition scores.
_POPULARITY_WEIGHT = 1e-6


class Transitions(NamedTuple):
  """The transitions of the training histories, sorted by their first item.

  `successor` and `probability` end with a padding entry, so that they are
  never empty.

  Attributes:
    start: The transitions from item `i` have the indices `start[i]` to
      `start[i + 1] - 1`.
    successor: The second item of each transition.
    probability: `count(a -> b) / (count(a) + 1)` for each transition.
    popularity: The count of each item, relative to the most popular item.
  """

  start: Int[Any, ' items+1']
  successor: Int[Any, ' transitions']
  probability: Float[Any, ' transitions']
  popularity: Float[Any, ' items']

  @classmethod
  def from_pairs(
    cls, pairs: Int[np.ndarray, 'n 2'], popularity: Int[np.ndarray, ' items']
  ) -> 'Transitions':
    """Counts pairs of consecutive items."""
    num_items = len(popularity)
    keys = pairs[:, 0].astype(np.int64) * num_items + pairs[:, 1]
    keys, counts = np.unique(keys, return_counts=True)
    first, successor = np.divmod(keys, num_items)
    leaving = np.bincount(pairs[:, 0], minlength=num_items)
    return cls(
      np.searchsorted(first, np.arange(num_items + 1)).astype(np.int32),
      np.append(successor, 0).astype(np.int32),
      np.append(counts / (leaving[first] + 1), 0).astype(np.float32),
      (popularity / max(1, popularity.max())).astype(np.float32),
    )


class TransitionModel(ItemModel):
  """Scores an item by the transitions from recent history items to this item.

  The score is the weighted sum of the transition probabilities. Popularity
  breaks ties, and orders the items without a transition. `features` is a
  `Transitions` tuple. The model has no parameters.
  """

  def scores(
    self, features: Transitions, batch: Batch
  ) -> Float[Array, 'b items']:
    """Returns the score of every item."""
    history = jnp.asarray(batch.history)
    num_recent = min(len(WEIGHTS), history.shape[1])
    length = (history >= 0).sum(axis=1, keepdims=True)
    place = length - 1 - np.arange(num_recent)[None]
    recent = jnp.take_along_axis(history, jnp.maximum(place, 0), axis=1)
    recent = jnp.maximum(recent, 0)
    start, stop = features.start[recent], features.start[recent + 1]
    stop = jnp.where(place >= 0, stop, start)[..., None]
    weight = jnp.asarray(WEIGHTS[:num_recent], jnp.float32)[None, :, None]
    row = jnp.arange(len(history))[:, None, None]

    def add(
      state: tuple[Int[Array, ''], Float[Array, 'b items']],
    ) -> tuple[Int[Array, ''], Float[Array, 'b items']]:
      offset, scores = state
      at = start[..., None] + offset + jnp.arange(_CHUNK)[None, None]
      successor = features.successor.at[at].get(mode='clip')
      probability = features.probability.at[at].get(mode='clip')
      item = jnp.where(at < stop, successor, self.num_items)
      scores = scores.at[row, item].add(weight * probability, mode='drop')
      return offset + _CHUNK, scores

    longest = (stop - start[..., None]).max()
    popularity = _POPULARITY_WEIGHT * features.popularity
    scores = jnp.broadcast_to(popularity[None], (len(history), self.num_items))
    _, scores = lax.while_loop(
      lambda state: state[0] < longest, add, (jnp.int32(0), scores)
    )
    return scores
