"""STATIC, and what its authors compare it with, on logits that are given.

Their code, https://github.com/youtube/static-constraint-decoding at commit
c24f9dc (arXiv 2602.22647), stays in a checkout of its own. Logits are one
array a level, `[b, 1, v]` and then `[b, m, v]`; there may be no more beams
than codes. Every search compiles once for its shapes, and takes its tables as
arguments. Only `Static.kernel` says which beams came to nothing.
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
# Files, and what is used of them.
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
  """The arrays of their index, by the names their search has for them."""

  packed_csr: Int32[Array, 'edges 2']
  csr_indptr: Int32[Array, ' states']
  start_mask: Bool[Array, ' v']
  dense_mask: Bool[Array, 'v v']
  dense_states: Int32[Array, 'v v']


class Static:
  """Their index, with their search and with one of ours.

  Attributes:
    nbytes: Of all arrays of the index, in their types.
    build_seconds: What building it took, from IDs in order.
  """

  def __init__(
    self, checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
  ):
    """Builds the index.

    Args:
      checkout: Their repository.
      codes: IDs of at least three levels, in ascending order, none repeated.
      num_codes: Codes at each level.
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
    """Searches as they do.

    Args:
      logits: What the network says.
      num_beams: Beams.
      tokens_per_beam: How many codes of each beam are looked at in the second
        level. Fewer than `num_beams` make it something else than beam search.

    Returns:
      IDs, best first; in dead beams, codes that are none.
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
    """Searches by their tables and their kernel, with little else to it.

    Args:
      logits: What the network says.
      num_beams: Beams.

    Returns:
      IDs and their log-probabilities, best first; -inf marks what is no ID.
    """
    kernel_fn = self._decoder.generate_and_apply_logprobs_mask
    return _lean_search(
      kernel_fn, self._branches, num_beams, self._index, tuple(logits)
    )


class Baseline(NamedTuple):
  """What STATIC is compared with by its authors, in their beam search.

  All let a beam keep as many codes as there are beams, so that none is missed.
  But what is not allowed scores -1e9 instead of -inf: where there are fewer
  IDs within reach than beams, the rest are made up, and nothing tells.

  Attributes:
    search: Given logits and a number of beams, returns IDs `[b, m, l]`, best
      first.
    nbytes: Of its arrays on the device.
    build_seconds: What building it took, from IDs in order.
  """

  search: Callable[[Logits, int], Int32[Array, 'b m l']]
  nbytes: int
  build_seconds: float


def ppv(
  checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
) -> Baseline:
  """Searches the IDs by bisection: for a prefix, then for each code after it.

  Exact, for all codes are verified. Their approximate one verifies the 50
  likeliest, and is not here.

  Args:
    checkout: Their repository.
    codes: IDs in ascending order.
    num_codes: Codes at each level.
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
  """Asks a trie of Python dicts on the host, at every level.

  Exact. Their callback reads NumPy arrays, code by code, and JAX gives it
  arrays of its own, where each code read is a program run: they are converted
  on the way, lest that be all that is timed.

  Args:
    checkout: Their repository.
    codes: IDs in any order.
    num_codes: Codes at each level.
  """
  baselines = _load(checkout, *_BASELINES)
  trie, seconds = _timed(baselines.build_trie, codes)
  theirs = baselines.make_trie_mask_fn(trie, num_codes)
  pure_callback = jax.pure_callback

  def with_numpy(callback, shape, *args):
    return pure_callback(
      lambda *args: callback(*map(np.asarray, args)), shape, *args
    )

  def mask_fn(*args):
    with mock.patch.object(jax, 'pure_callback', with_numpy):
      return theirs(*args)

  return _baseline(baselines, lambda _: mask_fn, (), seconds)


def hash_bitmap(
  checkout: Path, codes: Int[np.ndarray, 'items l'], num_codes: int
) -> Baseline:
  """Looks the hash of every prefix up among 2**30 bits.

  Not exact. A prefix that shares its bit with one in the catalogue passes, the
  likelier the larger the catalogue; and since leading zeros leave the hash at
  zero, code 0 may be followed by any code that an ID begins with. No prefix in
  the catalogue is kept out.

  Args:
    checkout: Their repository.
    codes: IDs in any order.
    num_codes: Codes at each level.
  """
  del num_codes  # The logits tell.
  baselines = _load(checkout, *_BASELINES)
  bitmap, seconds = _timed(baselines.build_hash_bitmap, codes.astype(np.int32))
  return _baseline(baselines, baselines.make_hash_bitmap_fn, bitmap, seconds)


def _baseline(
  baselines: ModuleType,
  make_mask_fn: Callable[[Any], Callable[..., Array]],
  table: Any,
  build_seconds: float,
) -> Baseline:
  """Puts a mask into their search, with its table as an argument of jit."""

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
  """Beam search with one top-k a level, over the candidates of all beams."""
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
    scores, chosen = jax.lax.top_k(scores, num_beams)
    codes = jnp.take_along_axis(codes, chosen[..., None] // width, axis=1)
    if level < 2:
      code = chosen % width
    else:
      code = _take(children, chosen)
      states = _take(next_states, chosen)
    codes = jnp.concatenate([codes, code[..., None]], axis=-1)
    if level == 1:
      states = index.dense_states[codes[..., 0], code]
  return codes, scores


def _take(
  values: Int32[Array, 'bm k'], chosen: Int32[Array, 'b m']
) -> Int32[Array, 'b m']:
  return jnp.take_along_axis(values.reshape(len(chosen), -1), chosen, axis=1)


def _next_logits(
  tokens: Int32[Array, 'rows 1'], logits: tuple[Array, ...]
) -> tuple[Float32[Array, 'rows 1 v'], tuple[Array, ...]]:
  """Is their network: what it takes for a random key are all logits to come."""
  now, *later = logits
  return now.reshape(len(tokens), 1, -1), tuple(later)


def _timed(build_fn: Callable, *args, **kwargs) -> tuple[Any, float]:
  start = time.perf_counter()
  built = jax.block_until_ready(build_fn(*args, **kwargs))
  return built, time.perf_counter() - start


@functools.cache
def _load(checkout: Path, file: str, *names: str) -> ModuleType:
  """Imports a file by its path: their folders are named as ours are."""
  path = Path(checkout) / file
  if not path.is_file():
    raise SystemExit(f'{path} is missing: clone {_URL} and name its folder')
  spec = importlib.util.spec_from_file_location(f'static_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  missing = [name for name in names if not hasattr(module, name)]
  if missing:
    raise SystemExit(
      f'{path} has no {", ".join(missing)}: check commit c24f9dc out'
    )
  return module
