"""Times our constrained search against other masks and against no mask."""

from collections.abc import Callable, Sequence
import functools
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Integer
import numpy as np

from benchmarks import catalogs, measuring
from benchmarks.peers import static_decoding
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import Trie
from tiger_jax.retrieval.beam_search import Beams, beam_search

# The number of codes per beam that STATIC's authors use.
_STATIC_TOKENS = 30
_NOT_EXACT = 'hash bitmap, not exact'


class Shape(NamedTuple):
  """The size and the distribution of a random catalog.

  Attributes:
    num_codes: The number of codes at each level.
    num_levels: The number of levels of an ID.
    num_items: The number of items.
    skew: Whether codes follow Zipf's law.
  """

  num_codes: int
  num_levels: int
  num_items: int
  skew: bool

  @property
  def label(self) -> str:
    """The name of the catalog in a table."""
    law = 'Zipf' if self.skew else 'uniform'
    return f'{self.num_codes}^{self.num_levels} {self.num_items:.0e} {law}'

  def draw(self) -> tuple[Integer[np.ndarray, 'items l'], Catalog, float]:
    """Returns the IDs, the catalog, and the seconds to build the catalog."""
    codes = catalogs.draw(
      self.num_items, self.num_codes, self.num_levels, self.skew, seed=0
    )
    start = time.perf_counter()
    catalog = Catalog.from_codes(codes, (self.num_codes,) * self.num_levels)
    return codes, catalog, time.perf_counter() - start

  def logits(self, batch_size: int, num_beams: int) -> list[jax.Array]:
    """Returns random logits for every level."""
    arrays = catalogs.logits(
      batch_size, num_beams, self.num_codes, self.num_levels, seed=0
    )
    return [jnp.asarray(x) for x in arrays]


@functools.partial(jax.jit, static_argnames=('num_beams', 'constrained'))
def search(
  trie: Trie,
  logits: Sequence[Float[jax.Array, 'b _ v']],
  num_beams: int,
  constrained: bool = True,
) -> Beams:
  """Runs the beam search with given logits instead of a network.

  Args:
    trie: The trie of the catalog.
    logits: The logits of every level, from `catalogs.logits`.
    num_beams: The number of beams.
    constrained: Whether to search only valid IDs.
  """
  return beam_search(
    lambda level, previous, candidates, cache: (logits[level], cache),
    (),
    trie,
    len(logits[0]),
    num_beams,
    constrained=constrained,
  )


@functools.partial(jax.jit, static_argnames='num_beams', keep_unused=True)
def unmasked(
  trie: Trie, logits: Sequence[Float[jax.Array, 'b _ v']], num_beams: int
) -> tuple[jax.Array, jax.Array]:
  """Runs the beam search without a mask, over valid and invalid IDs.

  Args:
    trie: Ignored. It is an argument so that both searches have the same
      dispatch time.
    logits: The logits of every level, from `catalogs.logits`.
    num_beams: The number of beams.

  Returns:
    IDs `[b, m, l]` and their scores.
  """
  beams = search(trie, logits, num_beams, constrained=False)
  return beams.codes, beams.scores


def slow_search(
  codes: Integer[np.ndarray, 'items l'],
  logits: Sequence[Float[np.ndarray, 'b _ v']],
  num_beams: int,
) -> Int[np.ndarray, 'b m l']:
  """Runs the constrained beam search in NumPy, as a test oracle.

  A prefix is represented by its position among the sorted prefixes of the same
  length.

  Args:
    codes: The IDs of the catalog.
    logits: The logits of every level, from `catalogs.logits`.
    num_beams: The number of beams.
  """
  num_codes, edges = logits[0].shape[2], []
  number = np.zeros(len(codes), np.int64)
  for column in codes.T:
    distinct, number = np.unique(
      number * num_codes + column, return_inverse=True
    )
    edges.append(distinct)
  results = []
  for request in range(len(logits[0])):
    scores, number = np.zeros(1, np.float32), np.zeros(1, np.int64)
    beams = np.zeros((1, 0), np.int64)
    for x, edges_of_level in zip(logits, edges, strict=True):
      x = x[request, : len(beams)]
      log_probs = np.asarray(jax.nn.log_softmax(jnp.asarray(x)))
      after = number[:, None] * num_codes + np.arange(num_codes)[None]
      valid = np.isin(after, edges_of_level)
      ranked = np.where(valid, scores[:, None] + log_probs, -np.inf).ravel()
      kept = np.argsort(-ranked, stable=True)[: min(num_beams, valid.sum())]
      scores, parent = ranked[kept], kept // num_codes
      code = kept[:, None] % num_codes
      beams = np.concatenate([beams[parent], code], axis=1)
      number = np.searchsorted(edges_of_level, after.ravel()[kept])
    results.append(beams)
  return np.stack(results)


def measure(
  shapes: Sequence[Shape],
  batches: Sequence[tuple[int, int]],
  num_rounds: int,
  static: Path | None,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times a search with each mask.

  Args:
    shapes: The catalogs.
    batches: Pairs of the number of requests and the number of beams.
    num_rounds: The number of timed rounds.
    static: A checkout of STATIC. With None, STATIC is not measured.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  speed, sizes = [], []
  for shape in shapes:
    codes, catalog, seconds = shape.draw()
    peer = static and static_decoding.Static(static, codes, shape.num_codes)
    sizes.append(_size(shape, catalog, seconds, peer, record))
    for batch_size, num_beams in batches:
      logits = shape.logits(batch_size, num_beams)
      times = _times(catalog, peer, codes, logits, num_beams, num_rounds)
      label = f'{shape.label} {batch_size}x{num_beams}'
      milliseconds = 1000 * np.median(times['ours'])
      ratios = {
        name: times['ours'] / times[name] for name in times if name != 'ours'
      }
      spreads = {name: measuring.percentiles(x) for name, x in ratios.items()}
      record({'section': 'masks', 'what': label, 'ms': milliseconds, **spreads})
      cells = [measuring.spread(x, ends=10) for x in ratios.values()]
      cells += ['-'] * (4 - len(cells))
      speed.append([label, f'{milliseconds:.2f}', *cells])
  header = [
    'ours / peer', 'ours, ms', 'no mask', "STATIC's kernel",
    'STATIC, exact', f'STATIC, {_STATIC_TOKENS} codes per beam',
  ]  # fmt: skip
  size_header = [
    'bytes per item', 'ours', 'ours without item rows', 'STATIC',
    'ours / STATIC', 'seconds to build, ours', 'seconds to build, STATIC',
  ]  # fmt: skip
  return '\n\n'.join([
    measuring.table(header, speed), measuring.table(size_header, sizes),
  ])  # fmt: skip


def _size(
  shape: Shape,
  catalog: Catalog,
  seconds: float,
  peer: static_decoding.Static | None,
  record: Callable[[dict[str, Any]], None],
) -> list[str]:
  """Returns a row of the table of sizes."""
  rows = catalog.arrays.rows.nbytes
  ours = catalog.nbytes / catalog.size
  sizes = {'ours': ours, 'without_rows': ours - rows / catalog.size}
  cells = [f'{x:.2f}' for x in sizes.values()]
  if peer:
    sizes['static'] = peer.nbytes / catalog.size
    cells += [f'{sizes["static"]:.2f}', f'{ours / sizes["static"]:.3f}']
  record({'section': 'size', 'what': shape.label, **sizes})
  cells += ['-'] * (4 - len(cells))
  static_seconds = f'{peer.build_seconds:.2f}' if peer else '-'
  return [shape.label, *cells, f'{seconds:.2f}', static_seconds]


def _times(
  catalog: Catalog,
  peer: static_decoding.Static | None,
  codes: Integer[np.ndarray, 'items l'],
  logits: list[jax.Array],
  num_beams: int,
  num_rounds: int,
) -> dict[str, np.ndarray]:
  """Compares the results of all sides, and returns their seconds per round."""
  sides: dict[str, Callable[[], Any]] = {
    'ours': lambda: search(catalog, logits, num_beams),
    'unmasked': lambda: unmasked(catalog, logits, num_beams),
  }
  beams = jax.device_get(search(catalog, logits, num_beams))
  if not catalog.contains(beams.codes[beams.valid]).all():
    raise measuring.Mismatch('a search returned an ID that no item has')
  if len(codes) <= 10_000:
    expected = slow_search(codes, jax.device_get(logits), num_beams)
    measuring.compare('NumPy', beams.codes, expected, beams.scores)
  if peer:
    sides['kernel'] = lambda: peer.kernel(logits, num_beams)
    sides['shipped'] = lambda: peer.shipped(logits, num_beams, num_beams)
    codes_of_peers = {"STATIC's kernel": sides['kernel']()[0]}
    codes_of_peers['STATIC'] = sides['shipped']()
    for name, peer_codes in codes_of_peers.items():
      measuring.compare(name, beams.codes, peer_codes, beams.scores)
    if num_beams > _STATIC_TOKENS:
      sides['shipped, 30'] = lambda: peer.shipped(
        logits, num_beams, _STATIC_TOKENS
      )
  return measuring.in_turns(measuring.blocking(sides), num_rounds, num_warm=3)


def measure_tries(
  shapes: Sequence[Shape],
  batches: Sequence[tuple[int, int]],
  num_rounds: int,
  static: Path,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times the baselines of STATIC's authors.

  Args:
    shapes: The catalogs.
    batches: Pairs of the number of requests and the number of beams.
    num_rounds: The number of timed rounds.
    static: A checkout of STATIC.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  makers = {
    'PPV, exact': static_decoding.ppv,
    'dict trie on the host': static_decoding.cpu_trie,
    _NOT_EXACT: static_decoding.hash_bitmap,
  }
  rows = []
  for shape in shapes:
    codes, catalog, _ = shape.draw()
    baselines = {
      name: make(static, codes, shape.num_codes)
      for name, make in makers.items()
    }
    for batch_size, num_beams in batches:
      logits = shape.logits(batch_size, num_beams)
      label = f'{shape.label} {batch_size}x{num_beams}'
      sides: dict[str, Callable[[], Any]] = {
        'ours': functools.partial(search, catalog, logits, num_beams)
      }
      for name, baseline in baselines.items():
        sides[name] = functools.partial(baseline.search, logits, num_beams)
      beams = jax.device_get(sides['ours']())
      seconds = measuring.in_turns(
        measuring.blocking(sides), num_rounds, num_warm=1
      )
      for name, baseline in baselines.items():
        peer_codes = np.asarray(sides[name]())
        same = (peer_codes == beams.codes).all(-1).mean()
        if name != _NOT_EXACT:
          measuring.compare(name, beams.codes, peer_codes, beams.scores)
        ratio = seconds[name] / seconds['ours']
        record({
          'section': 'tries', 'what': label, 'peer': name,
          'ratio': measuring.percentiles(ratio),
        })  # fmt: skip
        rows.append([
          f'{label}, {name}', f'{1000 * np.median(seconds[name]):.1f}',
          measuring.spread(ratio, ends=10), f'{same:.1%}',
          f'{baseline.nbytes / len(codes):.1f}',
        ])  # fmt: skip
  header = [
    '', 'peer, ms', 'peer / ours', 'beams equal to ours', 'bytes per item',
  ]  # fmt: skip
  return measuring.table(header, rows)
