"""TIGER as a retriever: histories in, items out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from tiger_jax.decoding.beam_search import Beams, beam_search
from tiger_jax.decoding.catalog import Catalog
from tiger_jax.models.tiger import Tiger
from tiger_jax.shapes import Batch, Codes, Recommendations


class TigerRetriever:
  """Answers histories by a beam search through the catalogue.

  Attributes:
    model: The network.
    codes: The Semantic ID of every item, on device.
    catalog: The index of those IDs.
    num_beams: Beams of the search.
  """

  def __init__(
    self, model: Tiger, codes: Codes, catalog: Catalog, num_beams: int
  ):
    """Takes the parts; nothing is compiled before the first request."""
    self.model = model
    self.codes = codes
    self.catalog = catalog
    self.num_beams = num_beams

  def recommend(self, params: Any, batch: Batch, k: int) -> Recommendations:
    """Returns the k most probable items of each history.

    Args:
      params: The network's parameters.
      batch: Histories; targets are not looked at.
      k: How many; the search has no fewer beams. Where fewer items can be
        reached, the rest is marked invalid.
    """
    beams = self.search(params, batch, k)
    short = max(0, k - beams.scores.shape[1])
    return Recommendations(
      _pad(beams.items[:, :k], short, -1),
      _pad(beams.scores[:, :k], short, -jnp.inf),
      _pad(beams.valid[:, :k], short, False),
    )

  def generated_validity(
    self, params: Any, batch: Batch, k: int
  ) -> Bool[Array, 'b k']:
    """Returns which of the k best IDs of an unconstrained search are items.

    Args:
      params: The network's parameters.
      batch: Histories.
      k: How many; the search has no fewer beams.
    """
    return self.search(params, batch, k, constrained=False).valid[:, :k]

  def search(
    self, params: Any, batch: Batch, k: int, constrained: bool = True
  ) -> Beams:
    """Runs the whole search of a batch as one program.

    Args:
      params: The network's parameters.
      batch: Histories.
      k: The least number of beams.
      constrained: Only along valid IDs.
    """
    return _search(
      self.model,
      max(k, self.num_beams),
      jnp.asarray(constrained),
      params,
      self.codes,
      self.catalog,
      batch,
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _search(
  model: Tiger,
  num_beams: int,
  constrained: Bool[Array, ''],
  params: Any,
  codes: Codes,
  catalog: Catalog,
  batch: Batch,
) -> Beams:
  bound = model.bind({'params': params})
  batch_size = batch.history.shape[0]
  encoded = bound.encode(codes, batch)
  return beam_search(
    lambda level, previous, cache: bound.decode_step(
      level, previous, cache, encoded
    ),
    bound.empty_cache(batch_size),
    catalog,
    batch_size,
    num_beams,
    constrained,
  )


def _pad(x: Array, short: int, value: Any) -> Array:
  return jnp.pad(x, ((0, 0), (0, short)), constant_values=value)
