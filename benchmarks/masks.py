"""What it costs to search valid IDs only: against no mask, and other masks."""

from collections.abc import Callable, Sequence
import functools
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Integer
import numpy as np

from benchmarks import catalogues, measuring
from benchmarks.peers import static_decoding
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.catalog.trie import Trie
from tiger_jax.retrieval.beam_search import Beams, beam_search

# STATIC's own setting, which keeps fewer codes of a beam than there are beams.
_STATIC_TOKENS = 30
_NOT_EXACT = 'hash bitmap, not exact'


class Shape(NamedTuple):
  """What is searched, and by how many.

  Attributes:
    num_codes: Codes at each level.
    num_levels: Levels of an ID.
    num_items: Items of the catalogue.
    skew: Whether codes follow Zipf's law.
  """

  num_codes: int
  num_levels: int
  num_items: int
  skew: bool

  @property
  def label(self) -> str:
    """What it is called in a table."""
    law = 'Zipf' if self.skew else 'uniform'
    return f'{self.num_codes}^{self.num_levels} {self.num_items:.0e} {law}'

  def draw(self) -> tuple[Integer[np.ndarray, 'items l'], Catalog, float]:
    """Returns IDs, their catalogue, and the seconds it took to build."""
    codes = catalogues.draw(
      self.num_items, self.num_codes, self.num_levels, self.skew, seed=0
    )
    start = time.perf_counter()
    catalog = Catalog.from_codes(codes, (self.num_codes,) * self.num_levels)
    return codes, catalog, time.perf_counter() - start

  def logits(self, batch_size: int, num_beams: int) -> list[jax.Array]:
    """Returns what a network might say."""
    drawn = catalogues.logits(
      batch_size, num_beams, self.num_codes, self.num_levels, seed=0
    )
    return [jnp.asarray(x) for x in drawn]


@functools.partial(jax.jit, static_argnames=('num_beams', 'constrained'))
def search(
  trie: Trie,
  logits: Sequence[Float[jax.Array, 'b _ v']],
  num_beams: int,
  constrained: bool = True,
) -> Beams:
  """Searches by logits that are there already.

  Args:
    trie: The catalogue.
    logits: From `catalogues.logits`.
    num_beams: Beams.
    constrained: Whether only valid IDs are found.
  """
  return beam_search(
    lambda level, previous, cache: (logits[level], cache),
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
  """Searches all IDs; nothing tells which of them are items.

  The search of the product. It is given the catalogue too, lest the time it
  takes to hand arguments over be counted as the mask's.

  Args:
    trie: Not looked at.
    logits: From `catalogues.logits`.
    num_beams: Beams.

  Returns:
    IDs `[b, m, l]` and their scores.
  """
  found = search(trie, logits, num_beams, constrained=False)
  return found.codes, found.scores


def slow_search(
  codes: Integer[np.ndarray, 'items l'],
  logits: Sequence[Float[np.ndarray, 'b _ v']],
  num_beams: int,
) -> Int[np.ndarray, 'b m l']:
  """Searches in NumPy, by sets of the prefixes that there are.

  A prefix is known by its number among those of its length.

  Args:
    codes: The catalogue.
    logits: From `catalogues.logits`.
    num_beams: Beams.
  """
  num_codes, edges = logits[0].shape[2], []
  number = np.zeros(len(codes), np.int64)
  for column in codes.T:
    distinct, number = np.unique(
      number * num_codes + column, return_inverse=True
    )
    edges.append(distinct)
  found = []
  for request in range(len(logits[0])):
    scores, number = np.zeros(1, np.float32), np.zeros(1, np.int64)
    beams = np.zeros((1, 0), np.int64)
    for x, known in zip(logits, edges, strict=True):
      x = x[request, : len(beams)]
      log_probs = np.asarray(jax.nn.log_softmax(jnp.asarray(x)))
      after = number[:, None] * num_codes + np.arange(num_codes)[None]
      valid = np.isin(after, known)
      ranked = np.where(valid, scores[:, None] + log_probs, -np.inf).ravel()
      kept = np.argsort(-ranked, stable=True)[: min(num_beams, valid.sum())]
      scores, parent = ranked[kept], kept // num_codes
      code = kept[:, None] % num_codes
      beams = np.concatenate([beams[parent], code], axis=1)
      number = np.searchsorted(known, after.ravel()[kept])
    found.append(beams)
  return np.stack(found)


def measure(
  shapes: Sequence[Shape],
  batches: Sequence[tuple[int, int]],
  num_rounds: int,
  static: Path | None,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times one search by each mask.

  Args:
    shapes: The catalogues.
    batches: Requests and beams.
    num_rounds: Rounds of each side.
    static: A checkout of STATIC; left out where None.
    record: Takes every measurement.

  Returns:
    Markdown.
  """
  speed, sizes = [], []
  for shape in shapes:
    codes, catalog, seconds = shape.draw()
    peer = static and static_decoding.Static(static, codes, shape.num_codes)
    sizes.append(_size(shape, catalog, seconds, peer, record))
    for batch_size, num_beams in batches:
      logits = shape.logits(batch_size, num_beams)
      found = _race(catalog, peer, codes, logits, num_beams, num_rounds)
      label = f'{shape.label} {batch_size}x{num_beams}'
      milliseconds = 1000 * np.median(found['ours'])
      ratios = {
        name: found['ours'] / found[name] for name in found if name != 'ours'
      }
      spreads = {name: measuring.percentiles(x) for name, x in ratios.items()}
      record({'section': 'masks', 'what': label, 'ms': milliseconds, **spreads})
      cells = [measuring.spread(x, ends=10) for x in ratios.values()]
      cells += ['-'] * (4 - len(cells))
      speed.append([label, f'{milliseconds:.2f}', *cells])
  header = [
    'ours / theirs', 'ours, ms', 'unmasked', "STATIC's kernel",
    'STATIC, exact', f'STATIC, {_STATIC_TOKENS} codes a beam',
  ]  # fmt: skip
  size_header = [
    'bytes an item', 'ours', 'but for item rows', 'STATIC', 'ours / STATIC',
    'seconds to build', 'STATIC',
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
  found = {'ours': ours, 'without_rows': ours - rows / catalog.size}
  cells = [f'{x:.2f}' for x in found.values()]
  if peer:
    found['static'] = peer.nbytes / catalog.size
    cells += [f'{found["static"]:.2f}', f'{ours / found["static"]:.3f}']
  record({'section': 'size', 'what': shape.label, **found})
  cells += ['-'] * (4 - len(cells))
  static_seconds = f'{peer.build_seconds:.2f}' if peer else '-'
  return [shape.label, *cells, f'{seconds:.2f}', static_seconds]


def _race(
  catalog: Catalog,
  peer: static_decoding.Static | None,
  codes: Integer[np.ndarray, 'items l'],
  logits: list[jax.Array],
  num_beams: int,
  num_rounds: int,
) -> dict[str, np.ndarray]:
  """Compares what the sides find, then times them in turns."""
  sides: dict[str, Callable[[], Any]] = {
    'ours': lambda: search(catalog, logits, num_beams),
    'unmasked': lambda: unmasked(catalog, logits, num_beams),
  }
  found = jax.device_get(search(catalog, logits, num_beams))
  if not catalog.contains(found.codes[found.valid]).all():
    raise measuring.Different('a search returned an ID that no item has')
  if len(codes) <= 10_000:
    expected = slow_search(codes, jax.device_get(logits), num_beams)
    measuring.compare('NumPy', found.codes, expected, found.scores)
  if peer:
    sides['kernel'] = lambda: peer.kernel(logits, num_beams)
    sides['shipped'] = lambda: peer.shipped(logits, num_beams, num_beams)
    theirs = {"STATIC's kernel": sides['kernel']()[0]}
    theirs['STATIC'] = sides['shipped']()
    for name, beams in theirs.items():
      measuring.compare(name, found.codes, beams, found.scores)
    if num_beams > _STATIC_TOKENS:
      sides['shipped, 30'] = lambda: peer.shipped(
        logits, num_beams, _STATIC_TOKENS
      )
  return measuring.in_turns(measuring.waiting(sides), num_rounds, num_warm=3)


def measure_tries(
  shapes: Sequence[Shape],
  batches: Sequence[tuple[int, int]],
  num_rounds: int,
  static: Path,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times the baselines that STATIC's authors compare theirs with.

  Args:
    shapes: The catalogues.
    batches: Requests and beams.
    num_rounds: Rounds of each side.
    static: A checkout of STATIC.
    record: Takes every measurement.

  Returns:
    Markdown.
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
      found = jax.device_get(sides['ours']())
      seconds = measuring.in_turns(
        measuring.waiting(sides), num_rounds, num_warm=1
      )
      for name, baseline in baselines.items():
        theirs = np.asarray(sides[name]())
        same = (theirs == found.codes).all(-1).mean()
        if name != _NOT_EXACT:
          measuring.compare(name, found.codes, theirs, found.scores)
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
  header = ['', 'ms', 'times ours', 'same beams', 'bytes an item']
  return measuring.table(header, rows)
