"""Measures the speed and the memory of the tokenizer by catalog size."""

from collections.abc import Sequence
import concurrent.futures
import functools
import multiprocessing
from pathlib import Path
import resource
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measuring
from benchmarks.rq_vae_training import Ours
from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.tokenizer import Tokenizer

_DIM = 768
_LIMIT_GIB = 8
_CHUNK = 65536
# The speed of a catalog is compared with that of a catalog of this size.
_SMALL = 100_000


def measure(scratch: Path, sizes: Sequence[int], num_rounds: int) -> str:
  """Trains the RQ-VAE on random vectors, and assigns Semantic IDs.

  Each catalog is measured in a separate process, which fails if it needs more
  than 8 GiB of memory.

  Args:
    scratch: A folder for the vectors of the largest catalog. The file is
      removed at the end.
    sizes: The numbers of items.
    num_rounds: The number of timed rounds of training.

  Returns:
    A Markdown table.
  """
  path = scratch / 'catalog.npy'
  rows = []
  try:
    _write(path, max(*sizes, _SMALL))
    for num_items in sizes:
      with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn')
      ) as process:
        cells = process.submit(_measure, path, num_items, num_rounds).result()
      rows.append([f'{num_items:,}', *cells])
  finally:
    path.unlink(missing_ok=True)
  header = [
    'items', 'initial state, s', 'step, ms',
    f'steps/s relative to {_SMALL:,} items', 'codes, items/s', 'IDs, items/s',
    'MiB before', 'MiB training', 'MiB codes', 'MiB IDs', 'MiB of the file',
  ]  # fmt: skip
  return '\n'.join([
    measuring.table(header, rows),
    '',
    f'RQ-VAE with layers {_DIM}-512-256-128-32 and 3 x 256 codes, random '
    'float16 vectors in a memory-mapped file, batches of 1024. "Initial state" '
    'computes the statistics of all items, and runs k-means. "Codes" runs all '
    'items through the network. "IDs" is `Tokenizer.make_ids`, which also '
    'resolves collisions. "MiB" is the peak of anonymous memory in a phase. '
    'The phase "before" ends before the training. "MiB of the file" is the '
    'peak of its mapped pages, which the system can reclaim. '
    f'Every process had a limit of {_LIMIT_GIB} GiB on its data (RLIMIT_DATA).',
  ])  # fmt: skip


def _write(path: Path, num_items: int) -> None:
  """Writes random vectors to a file."""
  need, free = 2 * _DIM * num_items, shutil.disk_usage(path.parent).free
  if need > free:
    raise SystemExit(
      f'{path.parent} has {free / 2**30:.0f} GiB free, but the vectors need '
      f'{need / 2**30:.0f} GiB: choose another --scratch, or fewer --items'
    )
  shape = (num_items, _DIM)
  file = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
  rng = np.random.default_rng(0)
  for start in range(0, num_items, _CHUNK):
    rows = file[start : start + _CHUNK]
    rows[:] = rng.standard_normal(rows.shape, np.float32)


def _measure(path: Path, num_items: int, num_rounds: int) -> list[str]:
  """Measures one catalog; runs in a separate process."""
  limit = _LIMIT_GIB * 2**30
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  embeddings = np.load(path, mmap_mode='r')[:num_items]
  peaks: list[tuple[float, float]] = []
  with measuring.watched(peaks):
    jax.block_until_ready(jnp.zeros(1))

  with measuring.watched(peaks):
    config = SemanticIdsConfig()
    start = time.perf_counter()
    ours = Ours(embeddings, config)
    init_seconds = time.perf_counter() - start
    small = Ours(np.load(path, mmap_mode='r')[:_SMALL], config)
    sides = {'ours': ours.round, 'small': small.round}
    for side in sides.values():
      side(0)  # Compiles, and shuffles the first epoch.
    training = measuring.in_turns(sides, num_rounds)

  quantizer = jax.device_get(ours.state.params.model)
  tokenizer = Tokenizer(quantizer, 'extra_code', _DIM)
  codes = jax.jit(type(quantizer).codes)
  # Compiles.
  item_batches.map_items(
    functools.partial(codes, quantizer), embeddings[:_SMALL]
  )
  tokenizer.make_ids(embeddings[:_SMALL], {})
  with measuring.watched(peaks):
    start = time.perf_counter()
    item_batches.map_items(functools.partial(codes, quantizer), embeddings)
    seconds_codes = time.perf_counter() - start
  with measuring.watched(peaks):
    start = time.perf_counter()
    tokenizer.make_ids(embeddings, {})
    seconds_ids = time.perf_counter() - start
  return [
    f'{init_seconds:.1f}',
    measuring.spread(1000 * training['ours'] / ours.steps_per_round, digits=1),
    measuring.spread(training['small'] / training['ours']),
    f'{num_items / seconds_codes:,.0f}',
    f'{num_items / seconds_ids:,.0f}',
    *(f'{anonymous:,.0f}' for anonymous, _ in peaks),
    f'{max(mapped for _, mapped in peaks):,.0f}',
  ]
