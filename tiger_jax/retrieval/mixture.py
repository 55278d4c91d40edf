"""A mixture of TIGER and transition counts in one beam search.

The probability of a prefix is (1 - g) P(prefix) + g M(prefix). P is the
probability by TIGER, and g is the share of the transitions (see `Gate`). The
mass of an item is its share of the transition scores of the request (see
`models.baselines.transitions`). M is the total mass of the items with this
prefix.

Beams are ranked by this probability at every level. A search with few beams
thus finds the items that TIGER or the transitions rank high. `Beams.exact_k`
counts the results that are proven for the mixture.
"""

import dataclasses
from typing import NamedTuple

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from tiger_jax.catalog.trie import Prefixes, Trie
from tiger_jax.config import EvaluationConfig
from tiger_jax.config.checks import require_fraction, require_not_negative
from tiger_jax.interfaces import Batch, Codes, ItemLists
from tiger_jax.models.baselines.transitions import Transitions
from tiger_jax.retrieval.listed_items import ListedItems

# Marks a missing row. It is greater than every row, so it is sorted last.
_NO_ROW = np.iinfo(np.int32).max
# With a gate of 1, items without a transition would have probability 0, and
# most searches would run out of items.
_MAX_GATE = 1 - 2.0**-20


@dataclasses.dataclass(frozen=True)
class Gate:
  """The share g of the transitions in a mixture.

  The share of a request is `weight * n / (n + kappa)`. n is the number of
  training transitions from the last item of the history. If `kappa` is 0, the
  share is `weight` for every n.

  Attributes:
    weight: The largest share, from 0 to 1. At 1, the items of the transitions
      come first, followed by all other items in the order of TIGER.
    kappa: The number of transitions at which the share is half of `weight`.
  """

  weight: float
  kappa: float = 0.0

  def __post_init__(self):
    """Checks the values."""
    require_fraction(self, 'weight')
    require_not_negative(self, 'kappa')

  @classmethod
  def from_config(cls, config: EvaluationConfig) -> 'Gate | None':
    """Returns the gate of a config; None if its weight is 0."""
    if not config.transition_weight:
      return None
    return cls(config.transition_weight, config.transition_kappa)


class Mixture(NamedTuple):
  """The transitions and the gate of a mixture, as a pytree of arrays.

  Attributes:
    transitions: The transitions. Items without a row in the table have none.
    weight: `Gate.weight`.
    kappa: `Gate.kappa`.
  """

  transitions: Transitions
  weight: Float[Array, ''] | Float[np.ndarray, ''] | np.float32
  kappa: Float[Array, ''] | Float[np.ndarray, ''] | np.float32

  @classmethod
  def of(cls, transitions: Transitions, gate: Gate) -> 'Mixture':
    """Returns the mixture of a table and a gate."""
    return cls(transitions, np.float32(gate.weight), np.float32(gate.kappa))

  def successors(
    self,
    batch: Batch,
    codes: Codes,
    lists: ItemLists | None,
    *,
    max_items: int = 100,
  ) -> 'Successors':
    """Returns the items with the best transition scores of each request.

    The scores are the weighted sums of `TransitionModel`, without popularity.

    Args:
      batch: Histories.
      codes: The Semantic IDs by row.
      lists: The items that each request allows or excludes. Excluded items have
        a mass of 0. The other masses do not change, just as TIGER's
        probabilities do not depend on the lists.
      max_items: The number of transitions that are read from each recent item,
        the most frequent first, and of items that are kept, the best first.
    """
    recent = self.transitions.recent(batch.history)
    offset = np.arange(max_items, dtype=np.int32)[None, None]
    at = recent.start[..., None] + offset
    is_listed = at < recent.stop[..., None]
    row = self.transitions.successor.at[at].get(mode='clip')
    count = self.transitions.count.at[at].get(mode='clip')
    score = jnp.where(is_listed, recent.weight[..., None] * count, 0)
    rows, scores = _merged(
      jnp.where(is_listed, row, _NO_ROW).reshape(len(row), -1),
      score.reshape(len(row), -1),
      num_copies=row.shape[1],
      max_items=max_items,
    )
    num_left = recent.num_left[:, 0].astype(jnp.float32)
    share = num_left / jnp.maximum(num_left + self.kappa, 1e-9)
    gate = jnp.where(self.kappa > 0, share, 1) * self.weight
    permitted = scores > 0
    if lists:
      permitted &= lists.permits(rows)
    return Successors(rows, codes[rows], scores, permitted, gate)


def _merged(
  rows: Int[Array, 'b n'],
  scores: Float[Array, 'b n'],
  num_copies: int,
  max_items: int,
) -> tuple[Int[Array, 'b f'], Float[Array, 'b f']]:
  """Adds up the scores of equal rows, and returns the best rows.

  Args:
    rows: Rows; `_NO_ROW` for none.
    scores: The scores of the rows.
    num_copies: The maximum number of copies of a row.
    max_items: The maximum number of rows to return.

  Returns:
    The best rows and their scores, best first, padded with -1 and 0.
  """
  rows, scores = lax.sort((rows, scores), num_keys=1)
  total = scores
  for distance in range(1, num_copies):
    is_copy = rows[:, distance:] == rows[:, :-distance]
    copies = jnp.where(is_copy, scores[:, distance:], 0)
    total += jnp.pad(copies, ((0, 0), (0, distance)))
  is_repeat = jnp.pad(rows[:, 1:] == rows[:, :-1], ((0, 0), (1, 0)))
  total = jnp.where(is_repeat, 0, total)
  best, index = lax.top_k(total, min(max_items, total.shape[1]))
  rows = jnp.take_along_axis(rows, index, axis=1)
  return jnp.where(best > 0, rows, -1), best


class Successors(NamedTuple):
  """The items of the transitions of each request.

  Attributes:
    rows: Item rows `[b, f]`; -1 for none.
    codes: The Semantic IDs of the items `[b, f, l]`.
    scores: The transition scores `[b, f]`; 0 for no item.
    permitted: Whether the request permits the item `[b, f]`.
    gate: The share of the transitions in the mixture `[b]`.
  """

  rows: Int[Array, 'b f']
  codes: Int[Array, 'b f l']
  scores: Float[Array, 'b f']
  permitted: Bool[Array, 'b f']
  gate: Float[Array, ' b']

  def start(self, trie: Trie) -> 'MixtureState':
    """Returns the state of the mixture before the first level.

    The masses of the items in the catalog are scaled to a sum of 1. The masses
    of excluded items are then set to 0. A request without transitions to items
    in the catalog has a gate of 0.
    """
    ranges = trie.ranges(self.codes)
    items = ListedItems.start(trie, self.rows, self.codes, ranges[-1])
    scores = jnp.where(items.beam >= 0, self.scores, 0)
    total = scores.sum(1, keepdims=True)
    gate = jnp.where(total > 0, jnp.minimum(self.gate[:, None], _MAX_GATE), 0)
    mass = scores / jnp.where(total > 0, total, 1)
    return MixtureState(
      items,
      jnp.where(self.permitted, mass, 0),
      jnp.log(gate),
      jnp.log1p(-gate),
      jnp.zeros((len(gate), 1)),
    )


class MixtureState(NamedTuple):
  """The state of a mixture during a search.

  Attributes:
    items: The positions of the items with transitions.
    mass: The mass of each item `[b, f]`; 0 for excluded items.
    log_gate: The logarithm of g `[b, 1]`.
    log_rest: The logarithm of 1 - g `[b, 1]`.
    log_probs: The log-probability by TIGER of each beam or, between `mix` and
      `advance`, of each candidate.
  """

  items: ListedItems
  mass: Float[Array, 'b f']
  log_gate: Float[Array, 'b 1']
  log_rest: Float[Array, 'b 1']
  log_probs: Float[Array, 'b n']

  def mix(
    self,
    log_probs: Float[Array, 'b m w'],
    rank: Float[Array, 'b m'],
    level: int,
    trie: Trie,
    prefixes: Prefixes,
  ) -> tuple[Float[Array, 'b m w'], 'MixtureState']:
    """Returns the log-probability of each candidate by the mixture.

    Args:
      log_probs: The log-probability of each next code by TIGER.
      rank: The log-probability of each beam by the mixture.
      level: The level.
      trie: The index of the valid IDs.
      prefixes: The prefixes of the beams.
    """
    own = (self.log_probs[:, :, None] + log_probs).reshape(len(rank), -1)
    items = self.items.at(level, trie, prefixes, own.shape[1])
    at = jnp.arange(len(own))[:, None], items.place
    mass = jnp.zeros_like(own).at[at].add(self.mass, mode='drop')
    # Only candidates that are prefixes of a listed item have a mass.
    mixed = jnp.logaddexp(
      self.log_rest + own.at[at].get(mode='clip'),
      self.log_gate + jnp.log(mass.at[at].get(mode='clip')),
    )
    candidates = (self.log_rest + own).at[at].set(mixed, mode='drop')
    # Rounding must not rank a candidate above its prefix, see `beam_search`.
    candidates = jnp.minimum(
      candidates.reshape(log_probs.shape), rank[:, :, None]
    )
    return candidates, self._replace(items=items, log_probs=own)

  def advance(self, chosen: Int[Array, 'b m']) -> 'MixtureState':
    """Returns the state after the `chosen` candidates became the beams."""
    return self._replace(
      items=self.items.advance(chosen, self.log_probs),
      log_probs=jnp.take_along_axis(self.log_probs, chosen, axis=1),
    )
