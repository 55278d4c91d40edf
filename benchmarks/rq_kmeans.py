"""RQ-KMeans: seconds and error, against faiss."""

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
# As many as ours takes; the default of faiss is fewer.
_ITERATIONS = 30


def measure(
  embeddings: Float[np.ndarray, 'items dim'], num_seeds: int, num_threads: int
) -> str:
  """Fits three levels of 256 codes, and gives every item its codes.

  Args:
    embeddings: The catalogue.
    num_seeds: Rounds, each with a seed of its own.
    num_threads: Threads of each side.

  Returns:
    Markdown.
  """
  # Not a dependency of the package.
  import faiss

  faiss.omp_set_num_threads(num_threads)
  # Nothing compiled by an earlier run may be found.
  jax.config.update('jax_enable_compilation_cache', False)
  x = embeddings.astype(np.float32)
  sides: dict[str, Callable[[int], np.ndarray]] = {
    'ours, compiling': lambda seed: _ours(x, seed, compile_again=True),
    'ours, compiled': lambda seed: _ours(x, seed, compile_again=False),
    'faiss as it comes': lambda seed: _faiss(faiss, x, seed, None),
    f'faiss, {_ITERATIONS} iterations': lambda seed: _faiss(
      faiss, x, seed, _ITERATIONS
    ),
  }
  errors = {name: np.zeros(num_seeds) for name in sides}

  def run(name: str, seed: int) -> None:
    # A few milliseconds of what is timed go into the error.
    errors[name][seed] = np.square(x - sides[name](seed)).sum(axis=1).mean()

  seconds = measuring.in_turns(
    {name: functools.partial(run, name) for name in sides}, num_seeds
  )
  rows = [
    [
      name,
      measuring.spread(seconds[name]),
      measuring.spread(errors[name], digits=4),
      measuring.spread(errors[name] / errors['faiss as it comes'], digits=4),
    ]
    for name in sides
  ]
  header = ['', 'seconds', 'squared error an item', 'error, faiss = 1']
  return '\n'.join([
    measuring.table(header, rows),
    '',
    f'{num_seeds} seeds; the slowest of ours took '
    f'{max(seconds["ours, compiling"]):.1f} s, compilation included.',
  ])  # fmt: skip


def _ours(x: np.ndarray, seed: int, compile_again: bool) -> np.ndarray:
  if compile_again:
    jax.clear_caches()
  quantizer = rq_kmeans.fit(jax.random.key(seed), x, (2**_BITS,) * _LEVELS)
  codes = item_batches.map_items(jax.jit(quantizer.codes), x)
  chosen = [
    np.asarray(codebook)[codes[:, level]]
    for level, codebook in enumerate(quantizer.codebooks)
  ]
  return sum(chosen, np.asarray(quantizer.mean)[None])


def _faiss(faiss, x: np.ndarray, seed: int, iterations: int | None):
  quantizer = faiss.ResidualQuantizer(x.shape[1], _LEVELS, _BITS)
  quantizer.max_beam_size = 1
  quantizer.cp.seed = seed + 1
  if iterations:
    quantizer.cp.niter = iterations
  quantizer.train(x)
  return quantizer.decode(quantizer.compute_codes(x))
