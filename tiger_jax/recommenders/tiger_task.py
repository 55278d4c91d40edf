"""The training task of TIGER: predicting the codes of the next item."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tiger_jax.catalog.trie import Trie
from tiger_jax.interfaces import Batch, Codes
from tiger_jax.models.cross_entropy import cross_entropy, target_children
from tiger_jax.models.history_bias import SeenItems
from tiger_jax.models.targets import next_items, preceding_items
from tiger_jax.models.tiger import Tiger
from tiger_jax.recommenders.session import Session


class TigerTables(NamedTuple):
  """The constant inputs of the training task.

  Attributes:
    codes: The Semantic IDs of all items.
    trie: The IDs of the training items, over which a trie softmax normalizes.
      None for a softmax over all codes.
  """

  codes: Codes
  trie: Trie | None


class TigerTask:
  """Next-item prediction with teacher forcing (TIGER paper, section 3.2).

  With a causal encoder, every item after the first is a target. Otherwise, only
  the item after the history is a target. `mean_targets` is the mean number of
  targets per training example, or None if every example has one target. The
  loss is scaled by `mean_targets`, so that a target in a batch of short
  histories has the same weight as a target in a batch of long histories.
  """

  def __init__(
    self,
    model: Tiger,
    codes: Any,
    mean_targets: Callable[[], float | None] = lambda: None,
    trie: Callable[[], Trie | None] = lambda: None,
  ):
    """Takes the network and the constants of the loss.

    `mean_targets` and `trie` are functions, because `init` does not need their
    results. A model is thus served without its training data.
    """
    self.model = model
    self._codes, self._mean_targets, self._trie = codes, mean_targets, trie

  @functools.cached_property
  def tables(self) -> TigerTables:
    """The arrays that every step reads."""
    return TigerTables(self._codes, self._trie())

  @functools.cached_property
  def mean_targets(self) -> float | None:
    """The mean number of targets per example, see `TigerTask`."""
    return self._mean_targets()

  def init(self, rng: Array) -> Any:
    """Returns initial parameters."""

    @jax.jit
    def init(rng: Array) -> Any:
      history = jnp.zeros((1, self.model.config.max_history), jnp.int32)
      row = jnp.zeros((1,), jnp.int32)
      codes = jnp.zeros((1, len(self.model.level_sizes)), jnp.int32)
      return self.model.init(rng, codes, Batch(history, row, row))['params']

    return init(rng)

  def loss(
    self, params: Any, tables: TigerTables, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the mean cross-entropy per code, and the values to log.

    With `mean_targets`, the loss is multiplied by the number of targets per
    example of the batch and divided by `mean_targets`. Logged values are not
    scaled.
    """
    codes, trie = tables.codes, tables.trie
    bound = self.model.bind({'params': params}, rngs={'dropout': rng})
    if self.model.config.causal_encoder:
      score, target = bound.every_target, next_items(batch)
    else:
      score, target = bound.last_target, batch.target[:, None]
    children = scored = seen_items = None
    if trie:
      if self.model.config.history_bias:
        seen_items = SeenItems.of(
          trie, codes[batch.history], preceding_items(batch, target.shape[1])
        )
      children = target_children(trie, codes[target], seen_items)
      scored = [x.candidates for x in children]
    logits = score(codes, batch, deterministic=False, scored=scored)
    weight = jnp.asarray(target >= 0, jnp.float32)
    levels = cross_entropy(logits, codes[target], weight, children)
    loss = levels.mean()
    metrics = {f'loss_level_{i}': value for i, value in enumerate(levels)}
    metrics['loss'] = loss
    if self.mean_targets is not None:
      loss *= weight.sum() / (len(batch.user) * self.mean_targets)
    return loss, metrics, ()


def make(session: Session) -> TigerTask:
  """Returns the training task of a session."""
  every_prefix = session.entry.trains_every_prefix(session.config.model)
  return TigerTask(
    session.network,
    session.catalog.codes,
    lambda: session.batches.mean_targets if every_prefix else None,
    lambda: session.training_trie,
  )
