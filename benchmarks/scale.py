"""Catalogues of any size: items a second, and memory."""

from collections.abc import Iterator, Sequence
import concurrent.futures
import contextlib
import functools
import multiprocessing
from pathlib import Path
import resource
import shutil
import threading
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
# What training on a catalogue is compared with.
_SMALL = 100_000


def measure(scratch: Path, catalogues: Sequence[int], num_rounds: int) -> str:
  """Trains on catalogues of random vectors, and gives them their IDs.

  Each catalogue has a process of its own, which fails where it asks for more
  than 8 GiB of memory.

  Args:
    scratch: Gets a file as large as the largest catalogue, removed in the end.
    catalogues: Numbers of items.
    num_rounds: Rounds of training.

  Returns:
    Markdown.
  """
  path = scratch / 'catalogue.npy'
  rows = []
  try:
    _write(path, max(*catalogues, _SMALL))
    for num_items in catalogues:
      with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn')
      ) as process:
        found = process.submit(_measure, path, num_items, num_rounds).result()
      rows.append([f'{num_items:,}', *found])
  finally:
    path.unlink(missing_ok=True)
  header = [
    'items', 'first state, s', 'step, ms', f'steps/s, {_SMALL:,} = 1',
    'codes, items/s', 'IDs, items/s', 'MiB before', 'MiB training',
    'MiB codes', 'MiB IDs', 'MiB of the file',
  ]  # fmt: skip
  return '\n'.join([
    measuring.table(header, rows),
    '',
    f'RQ-VAE of {_DIM}-512-256-128-32 and 3 x 256 codes, random float16 '
    'vectors in a mapped file, batches of 1024. "First state" is the '
    'statistics of all items and k-means; "codes" streams the items through '
    'the network, "IDs" is `Tokenizer.make_ids`, which does that and resolves '
    'collisions. MiB is the most anonymous memory at any time of a phase; of '
    'the file, the most that was mapped in beside it, which the system takes '
    'back when it needs it. Every process had a limit of '
    f'{_LIMIT_GIB} GiB on its data (RLIMIT_DATA).',
  ])  # fmt: skip


def _write(path: Path, num_items: int) -> None:
  """Writes random vectors."""
  need, free = 2 * _DIM * num_items, shutil.disk_usage(path.parent).free
  if need > free:
    raise SystemExit(
      f'{path.parent} has {free / 2**30:.0f} GiB free, {need / 2**30:.0f} GiB '
      'are needed: choose another --scratch, or fewer --items'
    )
  shape = (num_items, _DIM)
  file = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
  rng = np.random.default_rng(0)
  for start in range(0, num_items, _CHUNK):
    rows = file[start : start + _CHUNK]
    rows[:] = rng.standard_normal(rows.shape, np.float32)


def _measure(path: Path, num_items: int, num_rounds: int) -> list[str]:
  """Measures one catalogue, in a process of its own."""
  limit = _LIMIT_GIB * 2**30
  resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
  embeddings = np.load(path, mmap_mode='r')[:num_items]
  peaks: list[tuple[float, float]] = []
  with _watched(peaks):
    jax.block_until_ready(jnp.zeros(1))

  with _watched(peaks):
    config = SemanticIdsConfig()
    start = time.perf_counter()
    ours = Ours(embeddings, config)
    first_state = time.perf_counter() - start
    small = Ours(np.load(path, mmap_mode='r')[:_SMALL], config)
    sides = {'ours': ours.round, 'small': small.round}
    for side in sides.values():
      side(0)  # Compiles, and draws the order of the epoch.
    training = measuring.in_turns(sides, num_rounds)

  quantizer = jax.device_get(ours.state.params.model)
  tokenizer = Tokenizer(quantizer, 'extra_code', _DIM)
  codes = jax.jit(type(quantizer).codes)
  # Compiles.
  item_batches.map_items(
    functools.partial(codes, quantizer), embeddings[:_SMALL]
  )
  tokenizer.make_ids(embeddings[:_SMALL], {})
  with _watched(peaks):
    start = time.perf_counter()
    item_batches.map_items(functools.partial(codes, quantizer), embeddings)
    seconds_codes = time.perf_counter() - start
  with _watched(peaks):
    start = time.perf_counter()
    tokenizer.make_ids(embeddings, {})
    seconds_ids = time.perf_counter() - start
  return [
    f'{first_state:.1f}',
    measuring.spread(1000 * training['ours'] / ours.steps_per_round, digits=1),
    measuring.spread(training['small'] / training['ours']),
    f'{num_items / seconds_codes:,.0f}',
    f'{num_items / seconds_ids:,.0f}',
    *(f'{anonymous:,.0f}' for anonymous, _ in peaks),
    f'{max(mapped for _, mapped in peaks):,.0f}',
  ]


@contextlib.contextmanager
def _watched(peaks: list[tuple[float, float]]) -> Iterator[None]:
  """Appends the most memory of a phase: anonymous, and of files, in MiB."""
  seen = [_resident()]
  over = threading.Event()

  def watch():
    while not over.wait(0.01):
      seen.append(_resident())

  watcher = threading.Thread(target=watch)
  watcher.start()
  try:
    yield
  finally:
    over.set()
    watcher.join()
    peaks.append((max(x for x, _ in seen), max(x for _, x in seen)))


def _resident() -> tuple[float, float]:
  lines = Path('/proc/self/status').read_text().splitlines()
  found = dict(line.split(':') for line in lines)
  anonymous, mapped = (
    int(found[name].split()[0]) / 1024 for name in ('RssAnon', 'RssFile')
  )
  return anonymous, mapped
