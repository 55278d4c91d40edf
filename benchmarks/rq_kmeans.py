"""Compares the time and the error of RQ-KMeans with faiss."""

from collections.abc import Callable
import functools

import jax
from jaxtyping import Float
import numpy as np

from benchmarks import measuring
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.quantizers import rq_kmeans

_LEVELS = 3
_BITS = 8
# The number of iterations of our k-means. The default of faiss is smaller.
_ITERATIONS = 30


def measure(
  embeddings: Float[np.ndarray, 'items dim'], num_seeds: int, num_threads: int
) -> str:
  """Fits three levels of 256 codes, and assigns codes to every item.

  Args:
    embeddings: The vectors of all items.
    num_seeds: The number of rounds, each with a different seed.
    num_threads: The number of threads of faiss.

  Returns:
    A Markdown table.
  """
  # faiss is not a dependency of the package.
  import faiss

  faiss.omp_set_num_threads(num_threads)
  # Prevents JAX from loading the compiled programs of an earlier run.
  jax.config.update('jax_enable_compilation_cache', False)
  x = embeddings.astype(np.float32)
  sides: dict[str, Callable[[int], np.ndarray]] = {
    'ours, with compilation': lambda i: _ours(x, i, compile_again=True),
    'ours, without compilation': lambda i: _ours(x, i, compile_again=False),
    'faiss, defaults': lambda seed: _faiss(faiss, x, seed, None),
    f'faiss, {_ITERATIONS} iterations': lambda seed: _faiss(
      faiss, x, seed, _ITERATIONS
    ),
  }
  errors = {name: np.zeros(num_seeds) for name in sides}

  def run(name: str, seed: int) -> None:
    # The computation of the error takes a few ms of the measured time.
    errors[name][seed] = np.square(x - sides[name](seed)).sum(axis=1).mean()

  seconds = measuring.in_turns(
    {name: functools.partial(run, name) for name in sides}, num_seeds
  )
  rows = [
    [
      name,
      measuring.spread(seconds[name]),
      measuring.spread(errors[name], digits=4),
      measuring.spread(errors[name] / errors['faiss, defaults'], digits=4),
    ]
    for name in sides
  ]
  header = [
    '', 'seconds', 'squared error per item',
    'error relative to faiss, defaults',
  ]  # fmt: skip
  return '\n'.join([
    measuring.table(header, rows),
    '',
    f'{num_seeds} seeds. The slowest of our fits took '
    f'{max(seconds["ours, with compilation"]):.1f} s with compilation.',
  ])  # fmt: skip


def _ours(x: np.ndarray, seed: int, compile_again: bool) -> np.ndarray:
  if compile_again:
    jax.clear_caches()
  quantizer = rq_kmeans.fit(jax.random.key(seed), x, (2**_BITS,) * _LEVELS)
  codes = item_batches.map_items(jax.jit(quantizer.codes), x)
  vectors = [
    np.asarray(codebook)[codes[:, level]]
    for level, codebook in enumerate(quantizer.codebooks)
  ]
  return sum(vectors, np.asarray(quantizer.mean)[None])


def _faiss(faiss, x: np.ndarray, seed: int, iterations: int | None):
  quantizer = faiss.ResidualQuantizer(x.shape[1], _LEVELS, _BITS)
  quantizer.max_beam_size = 1
  quantizer.cp.seed = seed + 1
  if iterations:
    quantizer.cp.niter = iterations
  quantizer.train(x)
  return quantizer.decode(quantizer.compute_codes(x))
