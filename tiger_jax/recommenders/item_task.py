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
  """Next-item prediction with the loss that `ModelConfig.loss` names."""

  def __init__(self, model: ItemModel, features: Any):
    """Takes the network and its item features."""
    self.model = model
    self.tables = features

  def init(self, rng: Array) -> Any:
    """Returns initial parameters."""
    history = np.zeros((1, self.model.config.max_history), np.int32)
    row = np.zeros((1,), np.int32)

    @jax.jit
    def init(rng: Array, features: Any) -> Any:
      def apply_all(model: ItemModel) -> Any:
        batch = Batch(history, row, row)
        queries, _ = model.queries_and_targets(features, batch)
        return queries, model.item_vectors(features)

      rngs = {'params': rng, 'dropout': rng}
      return self.model.init(rngs, method=apply_all)['params']

    return init(rng, self.tables)

  def loss(
    self, params: Any, tables: Any, batch: Batch, rng: Array
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], tuple[()]]:
    """Returns the mean loss over targets; there are no other values to log."""
    rng_dropout, rng_negatives = jax.random.split(rng)
    bound = self.model.bind({'params': params}, rngs={'dropout': rng_dropout})
    queries, targets = bound.queries_and_targets(tables, batch)
    items = jnp.asarray(bound.item_vectors(tables), jnp.float32)
    queries = jnp.asarray(queries, jnp.float32)
    weight = jnp.asarray(targets >= 0, jnp.float32)
    targets = jnp.maximum(targets, 0)
    loss_name = self.model.config.loss
    num_targets = jnp.maximum(weight.sum(), 1)
    if loss_name == 'cross_entropy':
      total = _cross_entropy(queries, targets, items, weight)
      return total / num_targets, {}, ()
    if loss_name == 'sampled_softmax':
      losses = _sampled_softmax(rng_negatives, queries, targets, items)
    else:
      sequence = whole_sequence(batch)
      losses = _binary(rng_negatives, queries, targets, items, sequence)
    return (losses * weight).sum() / num_targets, {}, ()


def _cross_entropy(
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  weight: Float[Array, 'b n'],
  chunk_size: int = 512,
) -> Float[Array, '']:
  """Returns the weighted sum of cross-entropies over all items.

  Targets are processed in chunks, so that only the logits of one chunk are in
  memory. Chunks that contain only padding are skipped, so that a batch may mix
  short and long histories. If several replicas train a model that draws its
  targets at random, such as BERT4Rec, no chunk is skipped, because the replicas
  have different targets.
  """
  # One group per device, so that each device processes its own rows.
  num_groups = math.gcd(len(queries), jax.device_count())
  weight, targets = (x.reshape(num_groups, -1) for x in (weight, targets))
  # In each group, real targets come before padding.
  order = jnp.argsort(weight == 0, axis=1)
  size = min(max(chunk_size // num_groups, 1), order.shape[1])

  def chunks(x: Array) -> Array:
    index = order.reshape(order.shape + (1,) * (x.ndim - 2))
    x = jnp.take_along_axis(x, index, axis=1)
    padding = [(0, 0), (0, -x.shape[1] % size), *[(0, 0)] * (x.ndim - 2)]
    x = jnp.pad(x, padding).reshape(num_groups, -1, size, *x.shape[2:])
    return jnp.swapaxes(x, 0, 1)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add(
    total: Array, chunk: tuple[Array, Array, Array]
  ) -> tuple[Array, None]:
    queries, targets, weight = chunk

    def chunk_loss() -> Array:
      logits = jnp.einsum('gnd,id->gni', queries, items)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      return (losses * weight).sum()

    zero = jnp.zeros((), jnp.float32)
    return total + jax.lax.cond(weight.any(), chunk_loss, lambda: zero), None

  queries = queries.reshape(num_groups, -1, queries.shape[-1])
  inputs = (chunks(queries), chunks(targets), chunks(weight))
  return jax.lax.scan(add, jnp.zeros((), jnp.float32), inputs)[0]


def _sampled_softmax(
  rng: Array,
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  num_negatives: int = 256,
) -> Float[Array, 'b n']:
  """Returns the cross-entropy over the target and sampled negatives.

  Negatives are uniform random items. All targets of a user have the same
  negatives.
  """
  negatives = jax.random.randint(
    rng, (len(targets), num_negatives), 0, len(items), targets.dtype
  )
  target_logit = jnp.einsum('bnd,bnd->bn', queries, items[targets])
  negative_logits = jnp.einsum('bnd,bcd->bnc', queries, items[negatives])
  is_target = negatives[:, None] == targets[:, :, None]
  negative_logits = jnp.where(is_target, -jnp.inf, negative_logits)
  logits = jnp.concatenate([target_logit[:, :, None], negative_logits], 2)
  return jax.nn.logsumexp(logits, axis=2) - target_logit


def _binary(
  rng: Array,
  queries: Float[Array, 'b n d'],
  targets: Int[Array, 'b n'],
  items: Float[Array, 'items d'],
  sequence: Int[Array, 'b s'],
) -> Float[Array, 'b n']:
  """Returns the binary cross-entropy of the target and one random negative.

  Negatives that occur in the sequence of the user are ignored.
  """
  negatives = jax.random.randint(
    rng, targets.shape, 0, len(items), targets.dtype
  )
  target_logit = jnp.einsum('bnd,bnd->bn', queries, items[targets])
  negative_logit = jnp.einsum('bnd,bnd->bn', queries, items[negatives])
  in_sequence = (negatives[:, :, None] == sequence[:, None]).any(2)
  negative_loss = jnp.where(in_sequence, 0.0, jax.nn.softplus(negative_logit))
  return jax.nn.softplus(-target_logit) + negative_loss


def make(session: Session) -> ItemTask:
  """Returns the training task of a session."""
  return ItemTask(session.network, session.features)
