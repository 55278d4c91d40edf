"""Measures catalogs and quantizers with up to a hundred million items.

  python -m benchmarks.scale --scratch=FOLDER

FOLDER needs 8 GB of free space. `--quick` measures ten million items instead,
with a smaller sample of vectors, and takes less than four minutes. `--section`
selects one section.

The section `catalog` builds a catalog of random Semantic IDs, and compares a
search in it with a search in a catalog of a million items. Random logits
replace the network. With a network, the ratio would be smaller. Items are then
added. The section `zipf` does the same with IDs whose codes are drawn from a
Zipf distribution. The section `assignment` fits an RQ-KMeans quantizer to a
sample of random vectors, and computes the codes of all items. The vectors are
read from a file, which holds a tenth of the items and is read ten times.

The command exits with code 1 if a figure misses its target, and names the
figure.
"""

import argparse
import concurrent.futures
import multiprocessing
from pathlib import Path
import sys
import tempfile
import time
from typing import NamedTuple

import jax
from jaxtyping import UInt8
import numpy as np

from benchmarks import masks, measuring
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.semantic_ids.quantizers import kmeans, rq_kmeans
from tiger_jax.semantic_ids.tokenizer import Tokenizer

_SECTIONS = ('catalog', 'zipf', 'assignment')
_SMALL = 10**6
_LEVEL_SIZES = (256,) * 4
_BEAMS = 50
_ADDED = 1000
_DIM = 384  # The width of the vectors of all-MiniLM-L6-v2.
_CODEBOOKS = (256,) * 3
_NUM_READS = 10
_CHUNK = 2**16


class Figure(NamedTuple):
  """A measured value and its target.

  Attributes:
    name: What was measured, with the unit.
    value: The value.
    limit: The target; None if there is none.
    at_least: Whether the limit is a minimum, not a maximum.
  """

  name: str
  value: float
  limit: float | None = None
  at_least: bool = False

  @property
  def missed(self) -> bool:
    """Whether the value misses its target."""
    if self.limit is None:
      return False
    if self.at_least:
      return self.value < self.limit
    return self.value > self.limit

  def cells(self) -> list[str]:
    """Returns the cells of a row: name, value and target."""
    if self.limit is None:
      return [self.name, _number(self.value), '']
    sign = 'at least' if self.at_least else 'at most'
    target = f'{sign} {_number(self.limit)}'
    return [self.name, _number(self.value), target]


def measure_catalog(
  num_items: int, num_rounds: int, is_zipf: bool = False
) -> list[Figure]:
  """Measures a catalog of random IDs with four levels of 256 codes.

  Args:
    num_items: The number of items.
    num_rounds: The number of timed searches.
    is_zipf: Whether the codes of each level have a Zipf distribution, not a
      uniform one.

  Raises:
    Mismatch: A search returned an ID that is not in the catalog, or an added
      item is missing.
  """
  draw = _draw_zipf if is_zipf else _draw
  codes, new = np.split(draw(num_items + _ADDED), [num_items])
  peaks: list[tuple[float, float]] = []
  with measuring.watched(peaks):
    start = time.perf_counter()
    catalog = Catalog.from_codes(codes, _LEVEL_SIZES)
    jax.block_until_ready(catalog)
    build_seconds = time.perf_counter() - start
  small = Catalog.from_codes(draw(_SMALL), _LEVEL_SIZES)
  logits = masks.Shape(256, 4, num_items, False).logits(1, _BEAMS)
  sides = measuring.blocking(
    {
      'large': lambda: masks.search(catalog, logits, _BEAMS),
      'small': lambda: masks.search(small, logits, _BEAMS),
    }
  )
  times = measuring.in_turns(sides, num_rounds, num_warm=3)
  compiled = masks.search._cache_size()
  start = time.perf_counter()
  added = jax.block_until_ready(catalog.add(new))
  add_seconds = time.perf_counter() - start
  beams = masks.search(added, logits, _BEAMS)
  if not added.contains(np.asarray(beams.codes[0])).all():
    raise measuring.Mismatch('a search returned an ID without an item')
  if not added.contains(new).all() or added.size != num_items + len(new):
    raise measuring.Mismatch('an added item is missing')
  programs = masks.search._cache_size() - compiled
  ratio = float(np.median(times['large'] / times['small']))
  return [
    Figure(
      'share of the most frequent first code',
      float(np.bincount(codes[:, 0]).max() / num_items),
    ),
    Figure('build, s', build_seconds),
    Figure('peak memory of the build, GiB', peaks[0][0] / 1024),
    Figure('index, bytes per item', catalog.nbytes / num_items, 9),
    Figure(
      'index and codes of each row, bytes per item',
      (catalog.nbytes + catalog.codes.nbytes) / num_items,
    ),
    Figure('search, ms', 1000 * float(np.median(times['large']))),
    Figure('search, ratio to a million items', ratio, 1.3),
    Figure('addition of 1,000 items, s', add_seconds),
    Figure('programs compiled by the addition', programs, 0),
  ]


def _draw(count: int) -> UInt8[np.ndarray, 'items 4']:
  """Returns distinct pseudorandom IDs in no order.

  The final steps of the hash MurmurHash3 are a bijection of the 32-bit numbers,
  so different numbers have different IDs.
  """
  x = np.arange(count, dtype=np.uint32)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    x ^= x >> np.uint32(shift)
    x *= np.uint32(factor)
  x ^= x >> np.uint32(16)
  return x.astype('>u4').view(np.uint8).reshape(-1, 4)


def _draw_zipf(count: int) -> UInt8[np.ndarray, 'items 4']:
  """Returns random IDs whose codes are drawn from a Zipf distribution.

  IDs that were drawn before are dropped, so the codes of many IDs are less
  skewed than those of few.
  """
  rng = np.random.default_rng(0)
  shares = np.cumsum(1 / np.arange(1, 257))
  # Maps 16 random bits to a code.
  code = np.searchsorted(shares / shares[-1], np.arange(2**16) / 2**16)
  found = np.zeros(0, np.uint32)
  while len(found) < count:
    parts = [found]
    for _ in range(2 * (count - len(found)) // _CHUNK + 1):
      drawn = code[rng.integers(2**16, size=(_CHUNK, 4))].astype(np.uint8)
      parts.append(drawn.view('>u4').ravel().astype(np.uint32))
    # np.unique takes minutes for so many numbers.
    found = np.sort(np.concatenate(parts))
    found = found[np.concatenate([[True], found[1:] != found[:-1]])]
  found = rng.permutation(found)[:count]
  return found.astype('>u4').view(np.uint8).reshape(-1, 4)


def measure_assignment(
  scratch: Path, num_items: int, sample: int
) -> list[Figure]:
  """Measures the fit of RQ-KMeans to a sample, and the codes of all items."""
  path = scratch / 'vectors.npy'
  shape = (num_items // _NUM_READS, _DIM)
  file = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
  rng = np.random.default_rng(0)
  for start in range(0, len(file), _CHUNK):
    part = file[start : start + _CHUNK]
    part[:] = rng.standard_normal(part.shape, np.float32)
  del file
  embeddings = np.load(path, mmap_mode='r')
  start_time = time.perf_counter()
  quantizer = jax.block_until_ready(
    rq_kmeans.fit(jax.random.key(0), embeddings, _CODEBOOKS, max_items=sample)
  )
  fit_seconds = time.perf_counter() - start_time
  tokenizer = Tokenizer(quantizer, 'extra_code', _DIM)
  tokenizer.codes(embeddings[:_CHUNK])  # Compiles.
  peaks: list[tuple[float, float]] = []

  def assign(i: int) -> None:
    del i
    with measuring.watched(peaks):
      tokenizer.codes(embeddings)

  seconds = measuring.in_turns({'codes': assign}, _NUM_READS)['codes']
  rates = len(embeddings) / seconds
  return [
    Figure(f'fit to a sample of {sample:,} items, s', fit_seconds),
    Figure(
      'codes, items/s',
      _NUM_READS * len(embeddings) / seconds.sum(),
      60_000,
      True,
    ),
    Figure('slowest tenth relative to the fastest', rates.min() / rates.max()),
    Figure('peak memory of the first tenth, GiB', peaks[0][0] / 1024),
    Figure('peak memory of the last tenth, GiB', peaks[-1][0] / 1024),
  ]


def _number(value: float) -> str:
  if value == round(value) or abs(value) >= 1000:
    return f'{value:,.0f}'
  return f'{value:.3g}'


def measure(section: str, scratch: Path, is_quick: bool) -> list[Figure]:
  """Measures a section in this process."""
  measuring.use_cores(2)
  num_items = _num_items(is_quick)
  if section != 'assignment':
    num_rounds = 30 if is_quick else 100
    return measure_catalog(num_items, num_rounds, is_zipf=section == 'zipf')
  sample = 2**15 if is_quick else kmeans.MAX_ITEMS
  with tempfile.TemporaryDirectory(dir=scratch) as folder:
    return measure_assignment(Path(folder), num_items, sample)


def _num_items(is_quick: bool) -> int:
  return 10**7 if is_quick else 10**8


def main() -> int:
  """Prints the sections, and returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--section', choices=_SECTIONS, action='append')
  parser.add_argument('--scratch', type=Path, default=Path('runs/benchmarks'))
  parser.add_argument('--quick', action='store_true')
  options = parser.parse_args()
  options.scratch.mkdir(parents=True, exist_ok=True)
  print(measuring.environment())
  missed = []
  for section in options.section or _SECTIONS:
    # A new process for each section, so that its peak memory is its own.
    with concurrent.futures.ProcessPoolExecutor(
      1, multiprocessing.get_context('spawn')
    ) as process:
      figures = process.submit(
        measure, section, options.scratch, options.quick
      ).result()
    print(f'\n## {section}, {_num_items(options.quick):,} items\n')
    rows = [figure.cells() for figure in figures]
    print(measuring.table(['', 'measured', 'target'], rows), flush=True)
    missed += [figure for figure in figures if figure.missed]
  for figure in missed:
    name, value, target = figure.cells()
    print(f'missed: {name}: {value}, the target is {target}', file=sys.stderr)
  return 1 if missed else 0


if __name__ == '__main__':
  sys.exit(main())
