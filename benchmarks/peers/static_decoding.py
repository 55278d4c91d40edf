"""Runs STATIC and the baselines of its authors on given logits.

The code is loaded from a checkout of
https://github.com/youtube/static-constraint-decoding at commit c24f9dc (arXiv
2602.22647). There is one array of logits per level: `[b, 1, v]` for the first
level, and `[b, m, v]` for the other levels. There must not be more beams than
codes per level. Every search compiles once per shape, because its tables are
arguments of the compiled function. Only `Static.kernel` marks invalid beams.
"""

from collections.abc import Callable, Sequence
import functools
import importlib.util
from pathlib import Path
import time
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int, Int32
import numpy as np

_URL = 'https://github.com/youtube/static-constraint-decoding'
# The files of the checkout, and the functions of each file that are used.
_BUILDER = ('static_decoding/csr_utils.py', 'build_static_index')
_DECODER = (
  'static_decoding/decoding_jax.py',
  'sparse_transition_jax',
  'generate_and_apply_logprobs_mask',
)
_BASELINES = (
  'benchmarks/baselines_jax.py',
  'generic_beam_search_jax',
  'make_ppv_mask_fn',
  'build_trie',
  'make_trie_mask_fn',
  'build_hash_bitmap',
  'make_hash_bitmap_fn',
)

Logits = Sequence[Float32[Array, 'b _ v'] | Float32[np.ndarray, 'b _ v']]


class _Index(NamedTuple):
  """The arrays of STATIC's index, named as in STATIC's search."""

  packed_csr: Int32[Array, 'edges 2']
  csr_indptr: Int32[Array, ' states']
  start_mask: Bool[Array, ' v']
  dense_mask: Bool[Array, 'v v']
  dense_states: Int32[Array, 'v v']


class Static:
  """STATIC's index, STATIC's search, and a search with less overhead.

  Attributes:
    nbytes: The size of all arrays of the index.
    build_seconds: The time to build the index from sorted IDs.
  """

  def __init__(
    self, checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
  ):
    """Builds the index.

    Args:
      checkout: A checkout of STATIC.
      codes: Unique IDs of at least three levels, in ascending order.
      num_codes: The number of codes at each level.
    """
    self._decoder = _load(checkout, *_DECODER)
    build_fn = _load(checkout, *_BUILDER).build_static_index
    (packed_csr, indptr, branches, *dense), self.build_seconds = _timed(
      build_fn, codes.astype(np.int32), num_codes, dense_lookup_layers=2
    )
    self._index = _Index(*map(jnp.asarray, (packed_csr, indptr, *dense)))
    self._branches = tuple(map(int, branches))
    self.nbytes = sum(table.nbytes for table in self._index)

  def shipped(
    self, logits: Logits, num_beams: int, tokens_per_beam: int
  ) -> Int32[Array, 'b m l']:
    """Runs STATIC's search.

    Args:
      logits: The logits of every level.
      num_beams: The number of beams.
      tokens_per_beam: The number of next codes that the search considers for
        each beam at the second level. If this is less than `num_beams`, the
        beam search is not exact.

    Returns:
      IDs, best first. If there are fewer valid IDs than beams, the remaining
      IDs are invalid.
    """
    return self._decoder.sparse_transition_jax(
      _next_logits,
      tuple(logits),
      batch_size=len(logits[0]),
      beam_size=num_beams,
      tokens_per_beam=tokens_per_beam,
      start_token=0,
      max_sample_len=len(logits),
      vocab_size=logits[0].shape[-1],
      max_branch_factors=self._branches,
      **self._index._asdict(),
    )

  def kernel(
    self, logits: Logits, num_beams: int
  ) -> tuple[Int32[Array, 'b m l'], Float32[Array, 'b m']]:
    """Runs STATIC's kernel in a loop with little overhead.

    Args:
      logits: The logits of every level.
      num_beams: The number of beams.

    Returns:
      IDs and their log-probabilities, best first; -inf marks invalid beams.
    """
    kernel_fn = self._decoder.generate_and_apply_logprobs_mask
    return _lean_search(
      kernel_fn, self._branches, num_beams, self._index, tuple(logits)
    )


class Baseline(NamedTuple):
  """A baseline of STATIC's authors, in their beam search.

  The search considers as many next codes per beam as there are beams, so it
  misses no result. Invalid codes score -1e9 instead of -inf. If there are fewer
  valid IDs than beams, the results contain invalid IDs that are not marked.

  Attributes:
    search: A function of logits and a number of beams. It returns IDs
      `[b, m, l]`, best first.
    nbytes: The size of the arrays on the device.
    build_seconds: The time to build the arrays from sorted IDs.
  """

  search: Callable[[Logits, int], Int32[Array, 'b m l']]
  nbytes: int
  build_seconds: float


def ppv(
  checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
) -> Baseline:
  """Searches the sorted IDs by bisection for a prefix, then for each next code.

  The baseline is exact, because it verifies all codes. The approximate version
  of the authors, which verifies the 50 most probable codes, is not used.

  Args:
    checkout: A checkout of STATIC.
    codes: IDs in ascending order.
    num_codes: The number of codes at each level.
  """
  baselines = _load(checkout, *_BASELINES)
  table, seconds = _timed(jnp.asarray, codes.astype(np.int32))
  return _baseline(
    baselines,
    lambda table: baselines.make_ppv_mask_fn(table, num_codes),
    table,
    seconds,
  )


def cpu_trie(
  checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
) -> Baseline:
  """Looks up prefixes in a trie of Python dicts on the host, at every level.

  The baseline is exact. The authors' callback reads single codes. With JAX
  arrays, each read would run a program, and this would dominate the time. The
  arrays are therefore converted to NumPy arrays first.

  Args:
    checkout: A checkout of STATIC.
    codes: IDs in any order.
    num_codes: The number of codes at each level.
  """
  baselines = _load(checkout, *_BASELINES)
  trie, seconds = _timed(baselines.build_trie, codes)
  trie_mask_fn = baselines.make_trie_mask_fn(trie, num_codes)
  pure_callback = jax.pure_callback

  def with_numpy(callback, shape, *args):
    return pure_callback(
      lambda *args: callback(*map(np.asarray, args)), shape, *args
    )

  def mask_fn(*args):
    with mock.patch.object(jax, 'pure_callback', with_numpy):
      return trie_mask_fn(*args)

  return _baseline(baselines, lambda _: mask_fn, (), seconds)


def hash_bitmap(
  checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
) -> Baseline:
  """Looks up the hash of every prefix in a bitmap of 2**30 bits.

  The baseline is not exact. It accepts every valid prefix, and every prefix
  that shares its bit with a valid one. Such prefixes are more frequent in
  larger catalogs. Leading zeros do not change the hash. After a first code 0,
  every code that is valid as a first code is therefore accepted.

  Args:
    checkout: A checkout of STATIC.
    codes: IDs in any order.
    num_codes: The number of codes at each level.
  """
  del num_codes  # The last axis of the logits has this size.
  baselines = _load(checkout, *_BASELINES)
  bitmap, seconds = _timed(baselines.build_hash_bitmap, codes.astype(np.int32))
  return _baseline(baselines, baselines.make_hash_bitmap_fn, bitmap, seconds)


def _baseline(
  baselines: ModuleType,
  make_mask_fn: Callable[[Any], Callable[..., Array]],
  table: Any,
  build_seconds: float,
) -> Baseline:
  """Combines the authors' search with a mask function and its table."""

  @functools.partial(jax.jit, static_argnames='num_beams')
  def search(table, logits, num_beams):
    return baselines.generic_beam_search_jax(
      _next_logits,
      logits,
      make_mask_fn(table),
      batch_size=len(logits[0]),
      beam_size=num_beams,
      tokens_per_beam=num_beams,
      max_sample_len=len(logits),
    )

  return Baseline(
    lambda logits, num_beams: search(table, tuple(logits), num_beams),
    sum(x.nbytes for x in jax.tree.leaves(table)),
    build_seconds,
  )


@functools.partial(
  jax.jit, static_argnames=('kernel_fn', 'branches', 'num_beams')
)
def _lean_search(
  kernel_fn: Callable[..., tuple[Array, Array, Array]],
  branches: tuple[int, ...],
  num_beams: int,
  index: _Index,
  logits: tuple[Float32[Array, 'b _ v'], ...],
) -> tuple[Int32[Array, 'b m l'], Float32[Array, 'b m']]:
  """Runs a beam search with one top k per level over all candidates."""
  batch_size, _, num_codes = logits[0].shape
  codes = jnp.zeros((batch_size, 1, 0), jnp.int32)
  scores = jnp.zeros((batch_size, 1))
  states = jnp.zeros((batch_size, 1), jnp.int32)
  for level, level_logits in enumerate(logits):
    candidates = jax.nn.log_softmax(level_logits)
    if level == 0:
      allowed = index.start_mask[None, None]
      candidates = jnp.where(allowed, candidates, -jnp.inf)
    elif level == 1:
      allowed = index.dense_mask[codes[..., 0]]
      candidates = jnp.where(allowed, candidates, -jnp.inf)
    else:
      candidates, children, next_states = kernel_fn(
        candidates.reshape(-1, num_codes),
        states.reshape(-1),
        index.packed_csr,
        index.csr_indptr,
        branches[level],
        num_codes,
      )
      candidates = candidates.reshape(*states.shape, -1)

    width = candidates.shape[-1]
    scores = (scores[..., None] + candidates).reshape(batch_size, -1)
    scores, selected = jax.lax.top_k(scores, num_beams)
    codes = jnp.take_along_axis(codes, selected[..., None] // width, axis=1)
    if level < 2:
      code = selected % width
    else:
      code = _take(children, selected)
      states = _take(next_states, selected)
    codes = jnp.concatenate([codes, code[..., None]], axis=-1)
    if level == 1:
      states = index.dense_states[codes[..., 0], code]
  return codes, scores


def _take(
  values: Int32[Array, 'bm k'], selected: Int32[Array, 'b m']
) -> Int32[Array, 'b m']:
  values = values.reshape(len(selected), -1)
  return jnp.take_along_axis(values, selected, axis=1)


def _next_logits(
  tokens: Int32[Array, 'rows 1'], logits: tuple[Array, ...]
) -> tuple[Float32[Array, 'rows 1 v'], tuple[Array, ...]]:
  """Replaces the network; the state holds the logits of the next levels."""
  now, *later = logits
  return now.reshape(len(tokens), 1, -1), tuple(later)


def _timed(build_fn: Callable, *args, **kwargs) -> tuple[Any, float]:
  start = time.perf_counter()
  built = jax.block_until_ready(build_fn(*args, **kwargs))
  return built, time.perf_counter() - start


@functools.cache
def _load(checkout: Path, file: str, *names: str) -> ModuleType:
  """Imports a file by its path; STATIC has a package `benchmarks` too."""
  path = Path(checkout) / file
  if not path.is_file():
    raise SystemExit(f'{path} is missing: set --static to a clone of {_URL}')
  spec = importlib.util.spec_from_file_location(f'static_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  missing = [name for name in names if not hasattr(module, name)]
  if missing:
    raise SystemExit(
      f'{path} has no {", ".join(missing)}: check out commit c24f9dc'
    )
  return module
