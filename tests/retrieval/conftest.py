"""A network that reads its logits from tables, and catalogs of every layout."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog import layout
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import take_codes
from tiger_jax.interfaces import Batch
from tiger_jax.retrieval.beam_search import beam_search
from tiger_jax.retrieval.filters import ItemFilter

NUM_HASHES = 97


class TableModel:
  """A network with logits that depend on the request and all earlier codes.

  Attributes:
    tables: The logits of each level, for every hash of a prefix.
    requests: The initial hash of each request.
  """

  def __init__(self, level_sizes, requests, seed=0, sharpness=2.0):
    rng = np.random.default_rng(seed)
    self.tables = [
      (sharpness * rng.normal(size=(NUM_HASHES, size))).astype(np.float32)
      for size in level_sizes
    ]
    self.requests = np.array(requests, np.int32) % NUM_HASHES

  def search(self, catalog, num_beams, **options):
    """Returns the beams of a search.

    Args:
      catalog: The valid IDs.
      num_beams: The number of beams.
      **options: `constrained`, `normalize_children`, `sampler`, `lists` and
        `mixture`. `lists` and `mixture` require `codes`, the IDs of all rows.
        `mixture` also requires `history`.
    """
    beams = run(self.tables, self.requests, catalog, num_beams, **options)
    return jax.device_get(beams)

  def compiled_text(self, catalog, num_beams, **options):
    """Returns the compiled program of `search`, as text."""
    lowered = run.lower(
      self.tables, self.requests, catalog, num_beams, **options
    )
    return lowered.compile().as_text()

  @staticmethod
  def compiled():
    """Returns the number of programs that `search` has compiled."""
    return run._cache_size()

  def logits(self, request, prefix):
    """Returns the logits of the code after a prefix, for one request."""
    hashed = self.requests[request]
    for code in prefix:
      hashed = (hashed * 7 + code + 1) % NUM_HASHES
    return np.asarray(self.tables[len(prefix)][hashed], np.float64)

  def level_scores(self, codes, temperature=1.0):
    """Returns the log-probability of each code of each ID, `[b, items, l]`."""
    codes = np.asarray(codes)
    hashed = np.repeat(self.requests[:, None], len(codes), 1)
    scores = []
    for column, table in zip(codes.T, self.tables, strict=True):
      logits = table.astype(np.float64) / temperature
      log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
      scores.append(log_probs[hashed, column[None]])
      hashed = (hashed * 7 + column[None] + 1) % NUM_HASHES
    return np.stack(scores, 2)

  def scores(self, codes, temperature=1.0):
    """Returns the log-probability of each ID, `[b, items]`."""
    return self.level_scores(codes, temperature).sum(2)

  def scores_among(self, codes, temperature=1.0):
    """Returns scores normalized over the codes that may follow a prefix."""
    ids = [tuple(x) for x in np.asarray(codes).tolist()]
    children = {}
    for x in ids:
      for level, code in enumerate(x):
        children.setdefault(x[:level], set()).add(code)
    scores = np.zeros((len(self.requests), len(ids)))
    for request in range(len(self.requests)):
      for prefix, valid in children.items():
        logits = self.logits(request, prefix) / temperature
        total = np.log(sum(np.exp(logits[code]) for code in valid))
        for item, x in enumerate(ids):
          if x[: len(prefix)] == prefix:
            scores[request, item] += logits[x[len(prefix)]] - total
    return scores

  def slow_search(
    self, request, ids, num_beams, constrained=True, normalize_children=False
  ):
    """Searches with dictionaries and loops.

    Args:
      request: The index of the request.
      ids: A mapping of valid IDs, as tuples, to rows.
      num_beams: The number of beams.
      constrained: Whether to follow valid IDs only.
      normalize_children: Whether to normalize over the codes that may
        follow the prefix.

    Returns:
      The beams as tuples (score, codes, row or None), best first, and the best
      score that the search dropped.
    """
    trie = {}
    for semantic_id, row in ids.items():
      node = trie
      for code in semantic_id[:-1]:
        node = node.setdefault(code, {})
      node[semantic_id[-1]] = row
    beams, dropped = [(0.0, (), trie)], -np.inf
    for level, table in enumerate(self.tables):
      last = level == len(self.tables) - 1
      candidates = []
      for score, prefix, node in beams:
        logits = self.logits(request, prefix)
        summed = [*node] if normalize_children else slice(None)
        total = np.log(np.sum(np.exp(logits[summed])))
        for code in range(table.shape[1]):
          if constrained and code not in node:
            continue
          child = node.get(code, None if last else {})
          candidates.append(
            (score + logits[code] - total, (*prefix, code), child)
          )
      candidates.sort(key=lambda beam: -beam[0])
      beams = candidates[:num_beams]
      if len(candidates) > num_beams:
        dropped = max(dropped, candidates[num_beams][0])
    return beams, dropped


# Each program runs only a few times, so optimization would cost more time than
# it saves.
@functools.partial(
  jax.jit,
  static_argnames=('num_beams', 'constrained', 'normalize_children'),
  compiler_options={'xla_backend_optimization_level': 0},
)
def run(
  tables, requests, catalog, num_beams, constrained=True, lists=None,
  codes=None, sampler=None, normalize_children=False, mixture=None,
  history=None,
):  # fmt: skip
  """Runs a search with the tables.

  The cache holds the prefix of each beam and the hash of the prefix. The cached
  values stay correct only if the search reorders the cache with its beams.
  """

  def step(level, previous, candidates, cache):
    hashed, prefix = cache
    width = 1
    if previous is not None:
      width = previous.shape[1]
      flat = previous.reshape(-1)
      hashed = (hashed * 7 + flat + 1) % NUM_HASHES
      prefix = prefix.at[:, level - 1].set(flat)
    logits = jnp.asarray(tables[level])[hashed]
    logits = logits.reshape(len(requests), width, -1)
    return take_codes(logits, candidates.codes), (hashed, prefix)

  successors = None
  if mixture:
    batch = Batch(history, requests, requests)
    successors = mixture.successors(batch, jnp.asarray(codes), lists)
  return beam_search(
    step,
    (requests, jnp.zeros((len(requests), len(tables)), jnp.int32)),
    catalog,
    len(requests),
    num_beams,
    constrained=constrained,
    normalize_children=normalize_children,
    item_filter=ItemFilter.of(lists, codes) if lists else None,
    sampler=sampler,
    successors=successors,
  )


@pytest.fixture(scope='session')
def table_model():
  """Returns the class `TableModel`."""
  return TableModel


# Each case has the level sizes, the number of items, and three limits in bytes:
# for a bitmap, for a bitmap per item of capacity, and for a table of offsets.
# With low limits, a small catalog has the layout of a large one.
CASES = {
  'one level': ((300,), 100, None),
  'two levels': ((3, 300), 200, None),
  'three levels': ((4, 3, 5), 25, None),
  'four levels, two offsets': ((7, 7, 7, 7), 300, (1000, 0, 0)),
  'four levels, two bitmaps': ((7, 7, 7, 7), 300, (10, 0, 10)),
  'four levels, one bitmap': ((7, 7, 7, 7), 300, (0, 0, 0)),
  'narrow middle': ((40, 4, 40), 500, (10, 0, 10)),
  'narrow middle, no bitmap': ((40, 4, 40), 100, (0, 0, 0)),
  'wide middle, no bitmap': ((9, 300, 6), 600, (0, 0, 0)),
}


class Case:
  """A catalog layout.

  Attributes:
    level_sizes: The number of codes at each level.
    codes: The IDs of the items, in random order. They include the first IDs of
      `every`, so that some prefixes have many items.
    every: All possible IDs, in order.
  """

  def __init__(self, name, seed=0):
    self.level_sizes, num_items, self._limits = CASES[name]
    rng = np.random.default_rng(seed)
    space = math.prod(self.level_sizes)
    self.every = self.ids(np.arange(space))
    first = np.arange(min(40, num_items // 3))
    remaining = rng.permutation(np.arange(len(first), space))
    numbers = np.append(first, remaining[: num_items - len(first)])
    self.codes = self.every[rng.permutation(numbers)]

  def ids(self, numbers):
    """Returns the IDs at the given positions in `every`."""
    codes = np.stack(np.unravel_index(numbers, self.level_sizes), 1)
    return codes.astype(np.int32)

  def numbers(self, codes):
    """Returns the position of each ID in `every`."""
    return np.ravel_multi_index(tuple(codes.T), self.level_sizes)

  def build(self, codes=None, **kwargs):
    """Returns a catalog, by default with capacity for 100 more items."""
    codes = self.codes if codes is None else codes
    kwargs = {'capacity': len(self.codes) + 100} | kwargs
    names = '_BITMAP_BYTES', '_BITMAP_ITEM_BYTES', '_OFFSETS_BYTES'
    with pytest.MonkeyPatch.context() as patch:
      for name, value in zip(names, self._limits or (), strict=False):
        patch.setattr(layout, name, value)
      return Catalog.from_codes(codes, self.level_sizes, **kwargs)


@pytest.fixture(scope='session', params=CASES)
def case(request):
  """Returns each catalog layout in turn."""
  return Case(request.param)


@pytest.fixture(scope='session')
def make_case():
  """Returns `Case`, which builds a catalog layout by name."""
  return Case
