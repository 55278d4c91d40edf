"""An untrained baseline that counts item-to-item transitions."""

from typing import Any, NamedTuple

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel

# The weights of the most recent items of a history, most recent first.
WEIGHTS = (1.0, 0.5, 0.3, 0.2, 0.1)
# The weight of popularity. It is so small that popularity only orders items
# with equal transition scores.
_POPULARITY_WEIGHT = 1e-6


class Transitions(NamedTuple):
  """The transitions of the training histories.

  A transition is a pair of consecutive items. Transitions are sorted by their
  first item, then by count in descending order, then by their second item.
  `successor` and `count` end with spare capacity.

  Attributes:
    start: The transitions from item `i` have the indices `start[i]` to
      `start[i + 1] - 1`.
    successor: The second item of each transition.
    count: The number of times that each transition occurs.
    num_left: The sum of the counts of the transitions from each item.
    popularity: The number of times that each item occurs.
  """

  start: Int[Any, ' items+1']
  successor: Int[Any, ' transitions']
  count: Int[Any, ' transitions']
  num_left: Int[Any, ' items']
  popularity: Int[Any, ' items']

  @classmethod
  def from_pairs(
    cls, pairs: Int[np.ndarray, 'n 2'], popularity: Int[np.ndarray, ' items']
  ) -> 'Transitions':
    """Counts pairs of consecutive items.

    The spare capacity is 1/16 of the number of transitions, but at least 1,024.
    """
    num_items = len(popularity)
    keys = pairs[:, 0].astype(np.int64) * num_items + pairs[:, 1]
    keys, counts = np.unique(keys, return_counts=True)
    first, successor = np.divmod(keys, num_items)
    order = np.lexsort((successor, -counts, first))
    spare = (0, max(1024, len(keys) // 16))
    return cls(
      np.searchsorted(first, np.arange(num_items + 1)).astype(np.int32),
      np.pad(successor[order], spare).astype(np.int32),
      np.pad(counts[order], spare).astype(np.int32),
      np.bincount(pairs[:, 0], minlength=num_items).astype(np.int32),
      popularity.astype(np.int32),
    )

  def add(self, pairs: Int[np.ndarray, 'n 2']) -> 'Transitions':
    """Adds pairs of consecutive items on the host, and returns the new table.

    The second item of each pair is a new purchase, which `popularity` counts.
    Jitted functions recompile for the result only if the spare capacity is
    exhausted.

    Raises:
      UsageError: An item has no row in the table.
    """
    start, successor, count, _, popularity = map(np.asarray, self)
    num_items, stop = len(popularity), start[-1]
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < num_items:
      raise UsageError(
        f'a pair contains row {pairs.min() if pairs.min() < 0 else pairs.max()}'
        f': use rows from 0 to {num_items - 1}'
      )
    first = np.repeat(np.arange(num_items), np.diff(start))
    known = np.stack([first, successor[:stop]], 1)
    bought = np.bincount(pairs[:, 1], minlength=num_items)
    table = Transitions.from_pairs(
      np.concatenate([np.repeat(known, count[:stop], axis=0), pairs]),
      popularity + bought,
    )
    if table.start[-1] > len(successor):
      return table
    return table._replace(
      successor=table.successor[: len(successor)],
      count=table.count[: len(successor)],
    )

  def recent(self, history: Int[Any, 'b t']) -> 'Recent':
    """Looks up the most recent items of each history, see `WEIGHTS`."""
    history = jnp.asarray(history)
    num_recent = min(len(WEIGHTS), history.shape[1])
    length = (history >= 0).sum(axis=1, keepdims=True)
    place = length - 1 - np.arange(num_recent)[None]
    item = jnp.take_along_axis(history, jnp.maximum(place, 0), axis=1)
    is_known = (place >= 0) & (item < len(self.num_left))
    item = jnp.where(is_known, item, 0)
    start = self.start[item]
    num_left = jnp.where(is_known, self.num_left[item], 0)
    weight = jnp.asarray(WEIGHTS[:num_recent], jnp.float32)[None]
    return Recent(
      start,
      jnp.where(is_known, self.start[item + 1], start),
      num_left,
      weight / (num_left + 1),
    )


class Recent(NamedTuple):
  """The most recent items of histories, most recent first.

  Items without a row in the table have no transitions.

  Attributes:
    start: The index of the first transition from each item.
    stop: The index after the last transition.
    num_left: The sum of the counts of the transitions from each item.
    weight: The score of one occurrence of a transition from the item.
  """

  start: Int[Array, 'b r']
  stop: Int[Array, 'b r']
  num_left: Int[Array, 'b r']
  weight: Float[Array, 'b r']


class TransitionModel(ItemModel):
  """Scores an item by the transitions from recent history items to this item.

  The score is the weighted sum of the transition probabilities. Popularity
  breaks ties, and orders the items without a transition. `features` is a
  `Transitions` tuple. The model has no parameters.

  Attributes:
    chunk: The number of successors that are added per loop iteration.
  """

  chunk: int = 128

  def scores(
    self, features: Transitions, batch: Batch
  ) -> Float[Array, 'b items']:
    """Returns the score of every item."""
    recent = features.recent(batch.history)
    start, stop, weight = (
      x[..., None] for x in (recent.start, recent.stop, recent.weight)
    )
    row = jnp.arange(len(start))[:, None, None]

    def add(
      state: tuple[Int[Array, ''], Float[Array, 'b items']],
    ) -> tuple[Int[Array, ''], Float[Array, 'b items']]:
      offset, scores = state
      at = start + offset + jnp.arange(self.chunk)[None, None]
      successor = features.successor.at[at].get(mode='clip')
      count = features.count.at[at].get(mode='clip')
      item = jnp.where(at < stop, successor, self.num_items)
      scores = scores.at[row, item].add(weight * count, mode='drop')
      return offset + self.chunk, scores

    longest = (stop - start).max()
    popularity = jnp.asarray(features.popularity)
    popularity = (
      _POPULARITY_WEIGHT * popularity / jnp.maximum(popularity.max(), 1)
    )
    scores = jnp.broadcast_to(popularity[None], (len(start), self.num_items))
    _, scores = lax.while_loop(
      lambda state: state[0] < longest, add, (jnp.int32(0), scores)
    )
    return scores
