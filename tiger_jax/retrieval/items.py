"""Retrieval by maximum inner product, for models that score items."""

import dataclasses
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tiger_jax.interfaces import Batch, ItemLists, Recommendations
from tiger_jax.models.baselines.item_model import ItemModel


class ItemRetriever:
  """Recommends the items with the best scores.

  Scores are computed in float32 at full precision, as in `TigerRetriever`.
  """

  def __init__(self, model: ItemModel, features: Any):
    """Takes the model and its item features; the first request compiles."""
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
    """Recommends by an approximate search if the device supports one.

    The approximate search is faster and has a recall of 0.95.
    """
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
  # By default, GPUs may compute float32 products in TF32, and TPUs in bfloat16.
  with jax.default_matmul_precision('highest'):
    bound = model.bind({'params': params})
    scores = bound.scores(features, batch)
  return top_items(scores, k, lists, approximate)


def top_items(
  scores: Float[Array, 'b items'],
  k: int,
  lists: ItemLists | None,
  approximate: bool = False,
) -> Recommendations:
  """Returns the items with the best scores; ties are in row order.

  Args:
    scores: The score of every item.
    k: The number of items. If fewer are permitted, the remaining entries are
      marked invalid.
    lists: The items that each request allows or excludes.
    approximate: Whether 5 % of the best items may be missing, which makes the
      search faster on accelerators.
  """
  if lists is not None:
    scores = jnp.where(_permitted(lists, scores.shape[1]), scores, -jnp.inf)
  num_best = min(k, scores.shape[1])
  if approximate:
    best, items = lax.approx_max_k(scores, num_best)
  else:
    best, items = lax.top_k(scores, num_best)
  padding = ((0, 0), (0, k - num_best))
  best = jnp.pad(best, padding, constant_values=-jnp.inf)
  items = jnp.pad(items, padding, constant_values=-1)
  valid = best > -jnp.inf
  return Recommendations(jnp.where(valid, items, -1), best, valid)


def _permitted(lists: ItemLists, num_items: int) -> Bool[Array, 'b items']:
  rows = jnp.asarray(lists.rows)
  # As an index, -1 would be the last row.
  rows = jnp.where(rows >= 0, rows, num_items)
  listed = jnp.zeros((len(rows), num_items), bool)
  listed = listed.at[jnp.arange(len(rows))[:, None], rows].set(
    True, mode='drop'
  )
  return listed == jnp.asarray(lists.allow)[:, None]
