"""Retrieval by maximum inner product, of models that score items."""

import dataclasses
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tiger_jax.interfaces import Batch, Recommendations
from tiger_jax.models.baselines.item_model import ItemModel
from tiger_jax.retrieval.filters import ItemLists


class ItemRetriever:
  """Answers histories by the items whose vectors fit best.

  Scores are computed in float32 with full float32 products, as in
  `TigerRetriever`.
  """

  def __init__(self, model: ItemModel, features: Any):
    """Takes the parts; nothing is compiled before the first request."""
    config = dataclasses.replace(model.config, dtype='float32')
    self.model = model.clone(config=config)
    self.features = features

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> Recommendations:
    """Returns the k best items of each history, see `Retriever`."""
    return _recommend(self.model, k, False, params, self.features, batch, lists)

  def recommend_approximately(
    self, params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> Recommendations:
    """Like `recommend`, but may miss one in twenty items where it is faster."""
    return _recommend(self.model, k, True, params, self.features, batch, lists)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _recommend(
  model: ItemModel,
  k: int,
  approximate: bool,
  params: Any,
  features: Any,
  batch: Batch,
  lists: ItemLists | None,
) -> Recommendations:
  # By default, GPUs may compute float32 products in TF32, TPUs in bfloat16.
  with jax.default_matmul_precision('highest'):
    bound = model.bind({'params': params})
    query = jnp.asarray(bound.query(features, batch), jnp.float32)
    items = jnp.asarray(bound.item_vectors(features), jnp.float32)
    scores = jnp.einsum('bd,id->bi', query, items)
  return top_items(scores, k, lists, approximate)


def top_items(
  scores: Float[Array, 'b items'],
  k: int,
  lists: ItemLists | None,
  approximate: bool = False,
) -> Recommendations:
  """Returns the items of the best scores, equal ones in the order of rows.

  If `approximate`, one in twenty of the best may be missing, where that is
  faster. Places without a permitted item are marked invalid.
  """
  if lists is not None:
    scores = jnp.where(_permitted(lists, scores.shape[1]), scores, -jnp.inf)
  most = min(k, scores.shape[1])
  if approximate:
    best, items = lax.approx_max_k(scores, most)
  else:
    best, items = lax.top_k(scores, most)
  short = ((0, 0), (0, k - most))
  best = jnp.pad(best, short, constant_values=-jnp.inf)
  items = jnp.pad(items, short, constant_values=-1)
  valid = best > -jnp.inf
  return Recommendations(jnp.where(valid, items, -1), best, valid)


def _permitted(lists: ItemLists, num_items: int) -> Bool[Array, 'b items']:
  rows = jnp.asarray(lists.rows)
  # JAX would count -1 from the end.
  rows = jnp.where(rows >= 0, rows, num_items)
  listed = jnp.zeros((len(rows), num_items), bool)
  listed = listed.at[jnp.arange(len(rows))[:, None], rows].set(
    True, mode='drop'
  )
  return listed == jnp.asarray(lists.allow)[:, None]
