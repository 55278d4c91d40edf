"""TIGER as a retriever: histories in, items out."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from tiger_jax.catalog.catalog import Catalog
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import Batch, Codes, Recommendations
from tiger_jax.models.tiger import Tiger
from tiger_jax.retrieval.beam_search import Beams, beam_search
from tiger_jax.retrieval.filters import ItemLists
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.runtime import sharding

# The widest search that is tried to prove a result.
_MOST_BEAMS = 4096
# The most beams of one request. It also bounds the beams of all requests of a
# search, if this module or `most_requests` chooses the number of requests.
_MOST_ROWS = 2**14


class TigerRetriever:
  """Answers histories by a beam search through the catalogue.

  The search computes in float32 with full float32 products. Neither the dtype
  of training nor `jax.default_matmul_precision` changes this. In bfloat16,
  scores would be rounded differently in a search of another width or batch
  size, and ranks would change.

  Programs are compiled for the shapes of a batch, of the lists of items, and
  of the number of beams, of which there are few; what is in the catalogue and
  in a request changes none.
  """

  def __init__(self, model: Tiger, catalog: Catalog, num_beams: int):
    """Takes the parts; nothing is compiled before the first request."""
    config = dataclasses.replace(model.config, dtype='float32')
    self.model = model.clone(config=config)
    self.catalog = catalog
    self.num_beams = num_beams

  @property
  def codes(self) -> Codes:
    """The Semantic ID of every row, on the device."""
    return self.catalog.codes

  def with_catalog(self, catalog: Catalog) -> 'TigerRetriever':
    """Returns a retriever of the same model over another catalogue.

    Programs are compiled again only if the catalogue has another layout, as
    the result of `Catalog.grown` has.
    """
    return TigerRetriever(self.model, catalog, self.num_beams)

  def recommend(
    self, params: Any, batch: Batch, k: int, lists: ItemLists | None = None
  ) -> Recommendations:
    """Returns the k most probable items of each history, see `Retriever`.

    The search has k beams at least.
    """
    beams = self.search(params, batch, k, lists=lists)
    return Recommendations(
      beams.items[:, :k], beams.scores[:, :k], beams.valid[:, :k]
    )

  def most_requests(self, k: int) -> int:
    """Returns the most requests, of k items each, so that memory is bounded.

    Raises:
      UsageError: k is too large for one search of one request.
    """
    return max(1, _MOST_ROWS // self._enough_beams(k))

  def search(
    self,
    params: Any,
    batch: Batch,
    k: int,
    *,
    num_beams: int | None = None,
    # Departs from the paper: it searches all codes and drops invalid IDs.
    constrained: bool = True,
    lists: ItemLists | None = None,
    sampler: Sampler | None = None,
  ) -> Beams:
    """Runs the whole search of a batch as one program.

    Args:
      params: The network's parameters.
      batch: Histories.
      k: The least number of beams.
      num_beams: Doubled until it is at least k; None for `self.num_beams`.
      constrained: Only along valid IDs, which `lists` need.
      lists: Items each request may or may not get.
      sampler: Draws items instead of taking the most probable.

    Returns:
      As many beams; those that could not be filled are marked invalid.
    """
    if lists and not constrained:
      raise UsageError('lists of items need a search along valid IDs')
    self._check(batch, lists)
    num_beams = self._enough_beams(k, num_beams)
    return _search(
      self.model, num_beams, constrained,
      params, self.catalog, batch, lists, sampler,
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
    """Searches, and again with more beams until the k results are proven.

    Only requests that are not proven are searched again. No search has more
    than 4,096 beams; `exact_k` says how many results are proven. Takes what
    `search` takes, `num_beams` for the first search, and returns NumPy arrays.
    """
    num_beams = self._enough_beams(k, num_beams)
    inputs = sharding.fetch((batch, lists, sampler))

    def search(
      batch: Batch, lists: ItemLists | None, sampler: Sampler | None
    ) -> Any:
      beams = self.search(
        params, batch, k, num_beams=num_beams, lists=lists, sampler=sampler
      )
      return sharding.fetch(beams)

    found = search(batch, lists, sampler)
    filler = (inputs[0].history < 0).all(1) & (inputs[0].user < 0)
    while 2 * num_beams <= _MOST_BEAMS:
      asked = np.minimum(k, found.valid.sum(1))
      unproven = np.flatnonzero((found.exact_k < asked) & ~filler)
      if not len(unproven):
        break
      num_beams *= 2
      most = 1 << max(0, (_MOST_ROWS // num_beams).bit_length() - 1)
      for start in range(0, len(unproven), most):
        part = unproven[start : start + most]
        # A power of two rows, so that not every number compiles a program.
        rows = np.resize(part, 1 << (len(part) - 1).bit_length())
        again = search(
          *jax.tree.map(lambda x, r=rows: x[r] if x.ndim else x, inputs)
        )
        for old, new in zip(found, again, strict=True):
          new = new[: len(part)]
          old[part] = new if new.ndim == 1 else new[:, : old.shape[1]]
    np.minimum(found.exact_k, found.items.shape[1], out=found.exact_k)
    return found

  def _check(self, batch: Batch, lists: ItemLists | None) -> None:
    """Refuses values that JAX would accept silently, with wrong results."""
    num_requests, num_rows = len(batch.history), len(self.codes)
    if lists and len(lists.rows) != num_requests:
      raise UsageError(
        f'there are lists of items for {len(lists.rows)} requests, but '
        f'{num_requests} requests: make one list for each request'
      )
    rows = batch.history
    # Arrays on a device are not checked, because that would wait for it.
    if isinstance(rows, np.ndarray) and rows.size:
      wrong = rows[(rows < -1) | (rows >= num_rows)]
      if wrong.size:
        raise UsageError(
          f'a history has row {wrong[0]}: rows are from 0 to {num_rows - 1}, '
          'and -1 is padding'
        )

  def _enough_beams(self, k: int, num_beams: int | None = None) -> int:
    num_beams = num_beams or self.num_beams
    if isinstance(k, float) or k < 1:
      raise UsageError(f'k is {k}: pass an integer of at least 1')
    if k > max(num_beams, _MOST_ROWS):
      raise UsageError(
        f'k is {k}: ask for {max(num_beams, _MOST_ROWS)} items at most'
      )
    while num_beams < k:
      num_beams = min(2 * num_beams, max(num_beams, _MOST_ROWS))
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
) -> Beams:
  # By default, GPUs may compute float32 products in TF32, TPUs in bfloat16.
  with jax.default_matmul_precision('highest'):
    bound = model.bind({'params': params})
    codes = catalog.codes
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
      constrained=constrained,
      item_filter=lists.with_codes(codes) if lists else None,
      sampler=sampler,
    ).filled(num_beams)
