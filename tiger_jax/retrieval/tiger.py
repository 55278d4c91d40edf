"""TIGER as a retriever."""

import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch, Codes, ItemLists, Recommendations
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval.beam_search import Beams, beam_search
from tiger_jax.retrieval.ensemble import bind
from tiger_jax.retrieval.filters import ItemFilter
from tiger_jax.retrieval.mixture import Mixture
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.runtime import sharding


class TigerRetriever:
  """Recommends items by a beam search over the catalog.

  The search always computes in float32 at full precision, whatever the training
  dtype and `jax.default_matmul_precision` are. In bfloat16, the ranking would
  depend on the batch size and the number of beams, because they change the
  rounding errors.

  A program is compiled for each shape of a batch and of item lists, and for
  each number of beams. New histories, new listed items, added or removed items
  of the catalog, and a different mixture need no compilation.
  """

  def __init__(
    self,
    model: Tiger,
    catalog: Catalog,
    num_beams: int,
    mixture: Mixture | None = None,
    *,
    max_proof_beams: int = 4096,
    max_total_beams: int = 2**14,
  ):
    """Takes the model and its catalog; the first request compiles.

    Args:
      model: The model.
      catalog: The items that may be recommended.
      num_beams: The default number of beams.
      mixture: Ranks items by the model and by transitions; None for the model
        alone.
      max_proof_beams: The maximum number of beams in `search_exact`.
      max_total_beams: The maximum number of beams in a search, over all its
        requests. Callers that ignore `max_requests` can exceed it.
    """
    config = dataclasses.replace(model.config, dtype='float32')
    self.model = model.clone(config=config)
    self.catalog = catalog
    self.num_beams = num_beams
    self.mixture = mixture
    self.max_proof_beams = max_proof_beams
    self.max_total_beams = max_total_beams

  @property
  def codes(self) -> Codes:
    """The Semantic IDs by row, on the device."""
    return self.catalog.codes

  def with_catalog(self, catalog: Catalog) -> 'TigerRetriever':
    """Returns a retriever of the same model over another catalog.

    Programs are recompiled only if the layout of the catalog is different, as
    in the result of `Catalog.grown`.
    """
    other = copy.copy(self)
    other.catalog = catalog
    return other

  def with_mixture(self, mixture: Mixture | None) -> 'TigerRetriever':
    """Returns a retriever with another mixture, or without one."""
    other = copy.copy(self)
    other.mixture = mixture
    return other

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> Recommendations:
    """Returns the k most probable items for each history, see `Retriever`.

    The search has at least k beams.
    """
    beams = self.search(params, batch, k, lists=lists)
    return Recommendations(
      beams.items[:, :k], beams.scores[:, :k], beams.valid[:, :k]
    )

  def max_requests(self, k: int) -> int:
    """Returns the maximum number of requests for k items in one search.

    The limit bounds the memory of a search.

    Raises:
      UsageError: k is too large even for one request.
    """
    return max(1, self.max_total_beams // self._num_beams_for(k))

  def search(
    self,
    params: Any,
    batch: Batch,
    k: int,
    *,
    num_beams: int | None = None,
    # Departs from the paper: the paper searches all IDs and drops invalid ones.
    constrained: bool = True,
    lists: ItemLists | None = None,
    sampler: Sampler | None = None,
  ) -> Beams:
    """Searches for all requests of a batch in one compiled program.

    Args:
      params: The network's parameters, or an `Ensemble`.
      batch: Histories.
      k: The minimum number of beams.
      num_beams: The number of beams, doubled until it is at least k; None for
        `self.num_beams`.
      constrained: Whether to follow valid IDs only. Must be True with `lists`.
      lists: The items that each request allows or excludes.
      sampler: Samples items instead of taking the most probable ones.

    Returns:
      The beams of the search. If there are more beams than permitted items, the
      remaining beams are marked invalid.
    """
    if lists and not constrained:
      raise UsageError(
        'lists of items need a constrained search: set constrained to True'
      )
    if self.model.config.softmax == 'trie' and not constrained:
      raise UsageError(
        "the model was trained with config.model.softmax 'trie', which has no "
        'probabilities of invalid IDs: set constrained to True'
      )
    if self.mixture and (sampler or not constrained):
      raise UsageError(
        'a search that ranks by transitions cannot sample, and cannot generate '
        'invalid IDs: remove the sampler (the temperature) and set constrained '
        'to True, or set transition_weight to 0'
      )
    self._check(batch, lists)
    num_beams = self._num_beams_for(k, num_beams)
    return _search(
      self.model, num_beams, constrained,
      params, self.catalog, batch, lists, sampler, self.mixture,
    )  # fmt: skip

  def search_exact(
    self,
    params: Any,
    batch: Batch,
    k: int,
    *,
    num_beams: int | None = None,
    lists: ItemLists | None = None,
    sampler: Sampler | None = None,
  ) -> Beams:
    """Searches with more and more beams until k results are proven.

    Requests with fewer than k proven results are searched again, with up to
    `max_proof_beams` beams. `Beams.exact_k` is the number of proven results.

    Args:
      params: The network's parameters.
      batch: Histories.
      k: The number of results to prove.
      num_beams: The number of beams of the first search, see `search`.
      lists: The items that each request allows or excludes.
      sampler: Samples items instead of taking the most probable ones.

    Returns:
      The beams as NumPy arrays. Each request has as many beams as in the first
      search, even if it was searched with more beams.
    """
    num_beams = self._num_beams_for(k, num_beams)
    inputs = sharding.fetch((batch, lists, sampler))

    def search(
      batch: Batch, lists: ItemLists | None, sampler: Sampler | None
    ) -> Any:
      return sharding.fetch(
        self.search(
          params, batch, k, num_beams=num_beams, lists=lists, sampler=sampler
        )
      )

    beams = search(batch, lists, sampler)
    is_padding = (inputs[0].history < 0).all(1) & (inputs[0].user < 0)
    while 2 * num_beams <= self.max_proof_beams:
      num_wanted = np.minimum(k, beams.valid.sum(1))
      unproven = np.flatnonzero((beams.exact_k < num_wanted) & ~is_padding)
      if not len(unproven):
        break
      num_beams *= 2
      # Requests per search: the largest power of two within the limit.
      size = 1 << max(0, (self.max_total_beams // num_beams).bit_length() - 1)
      for start in range(0, len(unproven), size):
        part = unproven[start : start + size]
        # The number of rows is padded to a power of two, so that few programs
        # are compiled.
        rows = np.resize(part, 1 << (len(part) - 1).bit_length())
        wider = search(
          *jax.tree.map(lambda x, r=rows: x[r] if x.ndim else x, inputs)
        )
        for old, new in zip(beams, wider, strict=True):
          new = new[: len(part)]
          old[part] = new if new.ndim == 1 else new[:, : old.shape[1]]
    np.minimum(beams.exact_k, beams.items.shape[1], out=beams.exact_k)
    return beams

  def _check(self, batch: Batch, lists: ItemLists | None) -> None:
    """Rejects values for which JAX would silently return wrong results."""
    num_requests, num_rows = len(batch.history), len(self.codes)
    if lists and len(lists.rows) != num_requests:
      raise UsageError(
        f'lists has {len(lists.rows)} entries, but the batch has '
        f'{num_requests} requests: pass one list for each request'
      )
    rows = batch.history
    # Arrays on a device are not checked, because the check would have to wait
    # for their values.
    if isinstance(rows, np.ndarray) and rows.size:
      invalid = rows[(rows < -1) | (rows >= num_rows)]
      if invalid.size:
        raise UsageError(
          f'a history contains row {invalid[0]}: use rows from 0 to '
          f'{num_rows - 1}, and -1 for padding'
        )

  def _num_beams_for(self, k: int, num_beams: int | None = None) -> int:
    num_beams = num_beams or self.num_beams
    if isinstance(k, float) or k < 1:
      raise UsageError(f'k is {k}: pass an integer of at least 1')
    limit = max(num_beams, self.max_total_beams)
    if k > limit:
      raise UsageError(f'k is {k}: ask for {limit} items at most')
    while num_beams < k:
      num_beams = min(2 * num_beams, limit)
    return num_beams


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
  model: Tiger,
  num_beams: int,
  constrained: bool,
  params: Any,
  catalog: Catalog,
  batch: Batch,
  lists: ItemLists | None,
  sampler: Sampler | None,
  mixture: Mixture | None,
) -> Beams:
  # By default, GPUs may compute float32 products in TF32, and TPUs in bfloat16.
  with jax.default_matmul_precision('highest'):
    bound = bind(model, params)
    codes = catalog.codes
    batch_size = batch.history.shape[0]
    encoded = bound.encode(codes, batch)
    return beam_search(
      lambda level, previous, candidates, cache: bound.decode_step(
        level, previous, cache, encoded, candidates
      ),
      bound.empty_cache(batch_size),
      catalog,
      batch_size,
      num_beams,
      constrained=constrained,
      normalize_children=model.config.softmax == 'trie',
      item_filter=ItemFilter.of(lists, codes) if lists else None,
      history=_history(batch, codes) if model.config.history_bias else None,
      sampler=sampler,
      successors=(mixture.successors(batch, codes, lists) if mixture else None),
    ).padded(num_beams)


def _history(batch: Batch, codes: Codes) -> ItemFilter:
  """Returns a filter that lists the history of each request."""
  is_allowed = jnp.zeros(len(batch.history), bool)
  return ItemFilter.of(ItemLists(batch.history, is_allowed), codes)
