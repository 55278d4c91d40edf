"""Recommends items for histories, in batches that fit into memory."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any
import zlib

import jax
from jaxtyping import Float, Int
import numpy as np

from tiger_jax.data.batches import request_batch
from tiger_jax.errors import UsageError
from tiger_jax.interfaces import ItemLists
from tiger_jax.retrieval.beam_search import Beams
from tiger_jax.retrieval.sampling import Sampler
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.runtime import sharding
from tiger_jax.serving import arguments, one_process
from tiger_jax.serving.options import Options
from tiger_jax.serving.recommendation import Recommendation, RecommendationList
from tiger_jax.serving.snapshot import Snapshot

# The number of histories in a search is padded to one of these sizes.
BATCHES = (1, 8, 32, 128)
POPULAR = 'popular'


def recommend(
  snapshot: Snapshot, history: Any, k: Any, options: Any, strict: Any
) -> RecommendationList:
  """Returns the items for one history, see `Recommender.recommend`."""
  requests = {'history': history}
  return _recommend(snapshot, requests, k, options, strict)[0]


def recommend_batch(
  snapshot: Snapshot, histories: Any, k: Any, options: Any, strict: Any
) -> list[RecommendationList]:
  """Returns the items for histories, see `Recommender.recommend_batch`."""
  requests = {
    f'histories[{place}]': history
    for place, history in enumerate(
      arguments.listed(histories, 'histories', 'histories')
    )
  }
  return _recommend(snapshot, requests, k, options, strict)


def _recommend(
  snapshot: Snapshot,
  requests: Mapping[str, Any],
  k: Any,
  options: Any,
  strict: Any,
) -> list[RecommendationList]:
  """Returns the items for named histories; error messages use the names."""
  strict = arguments.switch(strict, 'strict')
  parsed = [snapshot.history(x, where, strict) for where, x in requests.items()]
  lists = recommend_rows(snapshot, [rows for rows, _ in parsed], k, options)
  for items, (_, unknown) in zip(lists, parsed, strict=True):
    items.unknown = unknown
  return lists


def recommend_rows(
  snapshot: Snapshot,
  histories: Sequence[list[int]],
  k: Any,
  options: Any,
  users: Sequence[int] | None = None,
) -> list[RecommendationList]:
  """Returns the k most probable items for each history, best first.

  An empty history gets the most popular items.

  Args:
    snapshot: The model and the catalog.
    histories: The item rows of each history, oldest first.
    k: The number of items for each history.
    options: Filters, sampling and search options, the same for all histories.
    users: The user row of each history, for models with user tokens; None if
      all users are unknown.

  Raises:
    UsageError: `k` or `options` is wrong.
  """
  query = Query.of(snapshot, k, options)
  longest = max(map(len, histories), default=0)
  size = max(x for x in BATCHES if x <= query.max_histories(longest))
  lists = [_new_list(snapshot) for _ in histories]
  known = [i for i, history in enumerate(histories) if history]
  for start in range(0, len(known), size):
    part = known[start : start + size]
    beams = query.search(
      [histories[i] for i in part],
      [-1 if users is None else users[i] for i in part],
    )
    # `tolist` converts the entries to Python numbers.
    columns = (x[: len(part), : query.k].tolist() for x in beams[:-1])
    for i, *request, exact_k in zip(
      part, *columns, beams.exact_k[: len(part)].tolist(), strict=True
    ):
      lists[i] += [
        Recommendation(
          snapshot.ids[row],
          snapshot.title(row),
          score,
          tuple(codes),
          place < exact_k,
        )
        for place, (row, codes, score, valid) in enumerate(
          zip(*request, strict=True)
        )
        if valid
      ]
  if len(known) < len(histories):
    rows, scores = (x.tolist() for x in query.popular())
    popular = [
      Recommendation(*item[:2], score, item[2], True)
      for item, score in zip(map(snapshot.item, rows), scores, strict=True)
    ]
    for entry, history in zip(lists, histories, strict=True):
      if not history:
        entry += popular
        entry.fallback = POPULAR
  return lists


def _new_list(snapshot: Snapshot) -> RecommendationList:
  entry = RecommendationList()
  entry.catalog_version = snapshot.catalog_version
  entry.model_version = snapshot.model.version
  return entry


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
  """A checked request for the k best items, for any number of histories.

  Attributes:
    snapshot: The model and the catalog.
    k: The number of items for each history.
    options: Filters, sampling and search options.
    retriever: The retriever with the mixture that the options choose.
    denied: The rows that no list may contain.
    allowed: The only rows that lists may contain; None for all rows.
  """

  snapshot: Snapshot
  k: int
  options: Options
  retriever: TigerRetriever
  denied: list[int]
  allowed: list[int] | None

  @classmethod
  def of(cls, snapshot: Snapshot, k: Any, options: Any) -> 'Query':
    """Checks the arguments.

    Raises:
      UsageError: `k` or `options` is wrong.
    """
    one_process.check()
    k = min(arguments.whole_number(k, 'k', 1), snapshot.num_items)
    if not isinstance(options, Options):
      raise UsageError(
        f'options is {arguments.shown(options)}: pass an Options(...)'
      )
    denied = snapshot.known.rows(options.deny, 'deny')
    allowed = None
    if options.allow is not None:
      allowed = snapshot.known.rows(options.allow, 'allow')
    retriever = snapshot.with_options(options)
    return cls(snapshot, k, options, retriever, denied, allowed)

  def max_histories(self, longest: int) -> int:
    """Returns the maximum number of histories in one search.

    The limit bounds the memory. `longest` is the length of the longest history.

    Raises:
      UsageError: `k` is too large.
    """
    num_listed = len(self.denied)
    if self.allowed is not None:
      num_listed = len(self.allowed)
    elif self.options.exclude_seen:
      num_listed += longest
    return min(
      self.retriever.max_requests(self.k), ItemLists.max_requests(num_listed)
    )

  def search(
    self,
    histories: Sequence[list[int]],
    users: Sequence[int],
    sizes: Sequence[int] = BATCHES,
    widths: Sequence[int] | None = None,
  ) -> Beams:
    """Searches for several histories in one batch.

    Args:
      histories: The item rows of each history, oldest first.
      users: The user row of each history; -1 for an unknown user.
      sizes: Ascending sizes of a batch, see `request_batch`.
      widths: Ascending widths of a batch, see `request_batch`. If None, every
        batch has the longest width, so histories of all lengths share one
        program.
    """
    options, session = self.options, self.snapshot.model.session
    if widths is None:
      widths = session.config.train.length_buckets[-1:]
    batch = request_batch(histories, widths, sizes)
    batch.user[: len(users)] = users
    size = len(batch.user)
    seen = histories if options.exclude_seen else [[]] * len(histories)
    padding = [[]] * (size - len(histories))
    # Without filters, the lists are empty and not None, so that searches with
    # and without filters use the same compiled programs.
    lists = ItemLists.of(
      [[*x, *self.denied] for x in (*seen, *padding)], [self.allowed] * size
    )
    sampler = None
    if options.temperature is not None:
      sampler = self._sampler(histories, options.temperature, size)
    search = self.retriever.search
    # At a high temperature, a search with few beams would miss most drawn
    # items.
    if options.exact or sampler:
      search = self.retriever.search_exact
    batch = sharding.shard_batch(session.mesh, batch)
    return jax.device_get(
      search(
        self.snapshot.model.params, batch, self.k, lists=lists, sampler=sampler
      )
    )

  def _sampler(
    self, histories: Sequence[list[int]], temperature: float, size: int
  ) -> Sampler:
    options = self.options
    num_levels = self.snapshot.codes.shape[1]
    num_drawn = options.drawn_levels or num_levels
    if num_drawn > num_levels:
      raise UsageError(
        f'drawn_levels is {num_drawn}, but the Semantic IDs have '
        f'{num_levels} codes: choose at most {num_levels}'
      )
    # The seed depends on the history, so that different histories in a batch
    # get different draws, and the same history always gets the same draw.
    seeds = [
      zlib.crc32(np.asarray(history, np.int32).tobytes(), options.seed)
      for history in histories
    ]
    return Sampler(
      np.resize(np.array(seeds, np.uint32), size),
      np.float32(temperature),
      np.int32(num_drawn),
    )

  def popular(
    self,
  ) -> tuple[Int[np.ndarray, ' n'], Float[np.ndarray, ' n']]:
    """Returns the rows of the k most popular items, and their scores.

    The score is the logarithm of the item's share of all events. The count of
    each item is increased by 1, so that items without events have a score too.
    With a temperature, items are drawn at random, in proportion to their share
    to the power of 1 / temperature.
    """
    snapshot, options = self.snapshot, self.options
    permitted = snapshot.is_listed.copy()
    if self.allowed is not None:
      permitted[np.setdiff1d(np.arange(len(permitted)), self.allowed)] = False
    permitted[self.denied] = False
    rows = np.flatnonzero(permitted)
    counts = snapshot.counts + 1
    scores = np.log(counts[rows] / counts[snapshot.is_listed].sum())
    rank = scores
    if options.temperature is not None:
      rng = np.random.default_rng(options.seed)
      noise = rng.gumbel(size=len(snapshot.ids))[rows]
      rank = scores / options.temperature + noise
    best = np.argsort(-rank, kind='stable')[: self.k]
    return rows[best], scores[best]
