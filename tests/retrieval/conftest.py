"""A network of tables, and catalogues of every kind, for brute force."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiger_jax.catalog import layout
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.retrieval.beam_search import beam_search

NUM_HASHES = 97


class TableModel:
  """A network whose logits depend on the request and all codes before.

  Attributes:
    tables: Of each level, logits for every hash of a prefix.
    requests: The hash that each request begins with.
  """

  def __init__(self, level_sizes, requests, seed=0, sharpness=2.0):
    rng = np.random.default_rng(seed)
    self.tables = [
      (sharpness * rng.normal(size=(NUM_HASHES, size))).astype(np.float32)
      for size in level_sizes
    ]
    self.requests = np.array(requests, np.int32) % NUM_HASHES

  def search(self, catalog, num_beams, **options):
    """Returns beams.

    Args:
      catalog: The valid IDs.
      num_beams: Beams.
      **options: `constrained`, `sampler`, and `lists` with `codes`, the IDs of
        the rows that they name.
    """
    found = run(self.tables, self.requests, catalog, num_beams, **options)
    return jax.device_get(found)

  def compiled_text(self, catalog, num_beams, **options):
    """Returns the program of the same search."""
    lowered = run.lower(
      self.tables, self.requests, catalog, num_beams, **options
    )
    return lowered.compile().as_text()

  @staticmethod
  def compiled():
    """Returns how many programs `search` has compiled."""
    return run._cache_size()

  def logits(self, request, prefix):
    """Returns the logits of what follows one request's prefix."""
    hashed = self.requests[request]
    for code in prefix:
      hashed = (hashed * 7 + code + 1) % NUM_HASHES
    return np.asarray(self.tables[len(prefix)][hashed], np.float64)

  def level_scores(self, codes, temperature=1.0):
    """Returns the log-probability of every code of IDs, `[b, items, l]`."""
    codes = np.asarray(codes)
    hashed = np.repeat(self.requests[:, None], len(codes), 1)
    found = []
    for column, table in zip(codes.T, self.tables, strict=True):
      logits = table.astype(np.float64) / temperature
      logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
      found.append(logs[hashed, column[None]])
      hashed = (hashed * 7 + column[None] + 1) % NUM_HASHES
    return np.stack(found, 2)

  def scores(self, codes, temperature=1.0):
    """Returns the log-probability of whole IDs, `[b, items]`."""
    return self.level_scores(codes, temperature).sum(2)

  def slow_search(self, request, ids, num_beams, constrained=True):
    """Searches with dictionaries.

    Args:
      request: Of which request.
      ids: The row of each valid ID, a tuple.
      num_beams: Beams.
      constrained: Only along valid IDs.

    Returns:
      Beams (score, codes, row or None), best first, and the best score that
      was dropped.
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
      grown = []
      for score, prefix, node in beams:
        logits = self.logits(request, prefix)
        total = np.log(np.sum(np.exp(logits)))
        for code in range(table.shape[1]):
          if constrained and code not in node:
            continue
          child = node.get(code, None if last else {})
          grown.append((score + logits[code] - total, (*prefix, code), child))
      grown.sort(key=lambda beam: -beam[0])
      beams = grown[:num_beams]
      if len(grown) > num_beams:
        dropped = max(dropped, grown[num_beams][0])
    return beams, dropped


# Each program runs a few times: to compile it well takes longer.
@functools.partial(
  jax.jit,
  static_argnames=('num_beams', 'constrained'),
  compiler_options={'xla_backend_optimization_level': 0},
)
def run(
  tables, requests, catalog, num_beams, constrained=True, lists=None,
  codes=None, sampler=None,
):  # fmt: skip
  """Runs a search by the tables.

  The cache holds a hash of each beam's prefix, and the prefix itself, which
  are right only while the search re-orders them as it re-orders its beams.
  """

  def step(level, previous, cache):
    hashed, prefix = cache
    width = 1
    if previous is not None:
      width = previous.shape[1]
      flat = previous.reshape(-1)
      hashed = (hashed * 7 + flat + 1) % NUM_HASHES
      prefix = prefix.at[:, level - 1].set(flat)
    logits = jnp.asarray(tables[level])[hashed]
    return logits.reshape(len(requests), width, -1), (hashed, prefix)

  return beam_search(
    step,
    (requests, jnp.zeros((len(requests), len(tables)), jnp.int32)),
    catalog,
    len(requests),
    num_beams,
    constrained=constrained,
    item_filter=lists.with_codes(codes) if lists else None,
    sampler=sampler,
  )


@pytest.fixture(scope='session')
def table_model():
  """The class of networks that are tables."""
  return TableModel


# Level sizes, items, and how many bytes bitmaps may take, altogether and for
# each item, and the table of offsets: the less, the more a small catalogue is
# laid out like a large one.
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
  """A catalogue to try.

  Attributes:
    level_sizes: Codes at each level.
    codes: Some of the IDs, in random order; the first IDs are among them, so
      that some prefixes have many items.
    every: All IDs, in order.
  """

  def __init__(self, name, seed=0):
    self.level_sizes, num_items, self._few = CASES[name]
    rng = np.random.default_rng(seed)
    space = math.prod(self.level_sizes)
    self.every = self.ids(np.arange(space))
    first = np.arange(min(40, num_items // 3))
    others = rng.permutation(np.arange(len(first), space))
    numbers = np.append(first, others[: num_items - len(first)])
    self.codes = self.every[rng.permutation(numbers)]

  def ids(self, numbers):
    """Returns IDs by their place in the order of all."""
    codes = np.stack(np.unravel_index(numbers, self.level_sizes), 1)
    return codes.astype(np.int32)

  def numbers(self, codes):
    """Returns the place of each ID in the order of all."""
    return np.ravel_multi_index(tuple(codes.T), self.level_sizes)

  def build(self, codes=None, **kwargs):
    """Returns a catalogue with room for 100 more, or as `kwargs` say."""
    codes = self.codes if codes is None else codes
    kwargs = {'capacity': len(self.codes) + 100} | kwargs
    names = '_BITMAP_BYTES', '_BITMAP_ITEM_BYTES', '_OFFSETS_BYTES'
    with pytest.MonkeyPatch.context() as patch:
      for name, value in zip(names, self._few or (), strict=False):
        patch.setattr(layout, name, value)
      return Catalog.from_codes(codes, self.level_sizes, **kwargs)


@pytest.fixture(scope='session', params=CASES)
def case(request):
  """Each kind of catalogue."""
  return Case(request.param)


@pytest.fixture(scope='session')
def make_case():
  """Makes a kind of catalogue by its name."""
  return Case
