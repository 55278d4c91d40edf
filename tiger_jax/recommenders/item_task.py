"""Next-item prediction for models that score items."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from tiger_jax.interfaces import Batch
from tiger_jax.models.baselines.item_model import ItemModel, whole_sequence
from tiger_jax.recommenders.session import Session


class ItemTask:
  """Next-item prediction by one of three losses, see `ModelConfig.loss`."""

  def __init__(self, model: ItemModel, features: Any):
    """Takes the network and what it knows of the items."""
    self.model = model
    self.tables = features

  def init(self, rng: Array) -> Any:
    """Returns fresh parameters."""
    history = np.zeros((1, self.model.config.max_history), np.int32)
    row = np.zeros((1,), np.int32)

    @jax.jit
    def init(rng: Array, features: Any) -> Any:
      def both(model: ItemModel) -> Any:
        found = model.queries_and_targets(features, Batch(history, row, row))
        return found, model.item_vectors(features)

      rngs = {'params': rng, 'dropout': rng}
      return self.model.init(rngs, method=both)['params']

    return init(rng, self.tables)

  def loss(
    self, params: Any, tables: Any, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the mean loss of a target, nothing more to log."""
    rng_dropout, rng_negatives = jax.random.split(rng)
    bound = self.model.bind({'params': params}, rngs={'dropout': rng_dropout})
    queries, targets = bound.queries_and_targets(tables, batch)
    items = jnp.asarray(bound.item_vectors(tables), jnp.float32)
    queries = jnp.asarray(queries, jnp.float32)
    real = jnp.asarray(targets >= 0, jnp.float32)
    targets = jnp.maximum(targets, 0)
    kind = self.model.config.loss
    count = jnp.maximum(real.sum(), 1)
    if kind == 'cross_entropy':
      return _cross_entropy(queries, targets, items, real) / count, {}, ()
    if kind == 'sampled_softmax':
      each = _sampled_softmax(rng_negatives, queries, targets, items)
    else:
      sequence = whole_sequence(batch)
      each = _binary(rng_negatives, queries, targets, items, sequence)
    return (each * real).sum() / count, {}, ()


def _cross_entropy(
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  real: Float[Array, 'b n'],
  chunk_size: int = 512,
) -> Float[Array, '']:
  """Returns the sum of the cross-entropies among all items.

  Chunks that are all padding are passed over, so histories of all lengths can
  be in a batch, and no more than a chunk's logits are in memory. (Replicas of a
  model that draws its targets pass over none.)
  """
  # As many groups as devices, so that each works on the rows that it has.
  groups = math.gcd(len(queries), jax.device_count())
  real, targets = (x.reshape(groups, -1) for x in (real, targets))
  # In each, those that are real come first.
  order = jnp.argsort(real == 0, axis=1)
  size = min(max(chunk_size // groups, 1), order.shape[1])

  def chunks(x: Array) -> Array:
    index = order.reshape(order.shape + (1,) * (x.ndim - 2))
    x = jnp.take_along_axis(x, index, axis=1)
    padding = [(0, 0), (0, -x.shape[1] % size), *[(0, 0)] * (x.ndim - 2)]
    x = jnp.pad(x, padding).reshape(groups, -1, size, *x.shape[2:])
    return jnp.swapaxes(x, 0, 1)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(
    total: Array, chunk: tuple[Array, Array, Array]
  ) -> tuple[Array, None]:
    queries, targets, real = chunk

    def loss() -> Array:
      logits = jnp.einsum('gnd,id->gni', queries, items)
      each = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      return (each * real).sum()

    zero = jnp.zeros((), jnp.float32)
    return total + jax.lax.cond(real.any(), loss, lambda: zero), None

  queries = queries.reshape(groups, -1, queries.shape[-1])
  inputs = (chunks(queries), chunks(targets), chunks(real))
  return jax.lax.scan(add, jnp.zeros((), jnp.float32), inputs)[0]


def _sampled_softmax(
  rng: Array,
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  num_negatives: int = 256,
) -> Float[Array, 'b n']:
  """Returns the cross-entropy among the target and items drawn evenly.

  The items are drawn for a user, and shared by all of the user's targets.
  """
  drawn = jax.random.randint(
    rng, (len(targets), num_negatives), 0, len(items), targets.dtype
  )
  right = jnp.einsum('bnd,bnd->bn', queries, items[targets])
  wrong = jnp.einsum('bnd,bcd->bnc', queries, items[drawn])
  is_target = drawn[:, None] == targets[:, :, None]
  wrong = jnp.where(is_target, -jnp.inf, wrong)
  logits = jnp.concatenate([right[:, :, None], wrong], 2)
  return jax.nn.logsumexp(logits, axis=2) - right


def _binary(
  rng: Array,
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  sequence: Int[Array, 'b s'],
) -> Float[Array, 'b n']:
  """Returns the binary cross-entropy of the target and an item drawn for it.

  An item that the user has does not count as wrong.
  """
  drawn = jax.random.randint(rng, targets.shape, 0, len(items), targets.dtype)
  right = jnp.einsum('bnd,bnd->bn', queries, items[targets])
  wrong = jnp.einsum('bnd,bnd->bn', queries, items[drawn])
  owned = (drawn[:, :, None] == sequence[:, None]).any(2)
  missed = jnp.where(owned, 0.0, jax.nn.softplus(wrong))
  return jax.nn.softplus(-right) + missed


def make(session: Session) -> ItemTask:
  """Returns the task of a session."""
  return ItemTask(session.network, session.features)
