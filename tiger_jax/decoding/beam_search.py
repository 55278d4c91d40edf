"""Beam search over Semantic IDs, constrained to the catalogue or not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tiger_jax.decoding.catalog import Catalog

Cache = Any
StepFn = Callable[
  [int, Int[Array, 'b m'] | None, Cache],
  tuple[Float[Array, 'b m v'], Cache],
]


class Beams(NamedTuple):
  """The outcome of a search, best first.

  Attributes:
    items: Item rows `[b, m]`, -1 where not valid.
    codes: The Semantic ID of every beam `[b, m, l]`.
    scores: Log-probability `[b, m]`; -inf where the search ran out of items.
    valid: Whether the beam `[b, m]` is an item of the catalogue.
  """

  items: Int[Array, 'b m']
  codes: Int[Array, 'b m l']
  scores: Float[Array, 'b m']
  valid: Bool[Array, 'b m']


def beam_search(
  step_fn: StepFn,
  cache: Cache,
  catalog: Catalog,
  batch_size: int,
  num_beams: int,
  constrained: bool | Bool[Array, ''] = True,
) -> Beams:
  """Finds the most probable Semantic IDs of each request.

  The levels are few and fixed, so the loop is unrolled: no end token, no
  length penalty. The first step runs on one beam. Probabilities are normalised
  over all codes of a level and masked afterwards, so that a constrained search
  ranks items exactly as their full log-probabilities do.

  Args:
    step_fn: `(level, previous, cache) -> (logits, cache)` for all beams of all
      requests; `previous` is None at level 0. Arrays in the cache are
      `[b * m, ...]`, rows in (request, beam) order.
    cache: Before the first step, `[b, ...]`.
    catalog: The valid IDs.
    batch_size: Requests, b.
    num_beams: Beams kept after every level, m; fewer where the first levels
      have fewer codes.
    constrained: Only walk along valid prefixes. Otherwise any code may follow
      any other and `valid` says which beams happen to be items. May be traced,
      so that one program does both.
  """
  scores = jnp.zeros((batch_size, 1))
  state = jnp.zeros((batch_size, 1), jnp.int32)
  codes = jnp.zeros((batch_size, 1, 0), jnp.int32)
  for level, num_codes in enumerate(catalog.level_sizes):
    previous = codes[:, :, -1] if level else None
    logits, cache = step_fn(level, previous, cache)
    candidates = scores[:, :, None] + jax.nn.log_softmax(logits)
    allowed = catalog.allowed(level, state) | jnp.logical_not(constrained)
    candidates = jnp.where(allowed, candidates, -jnp.inf)
    candidates = candidates.reshape(batch_size, -1)
    scores, chosen = jax.lax.top_k(
      candidates, min(num_beams, candidates.shape[1])
    )
    parent, code = chosen // num_codes, chosen % num_codes
    state = catalog.advance(level, _pick(state, parent), code)
    codes = jnp.concatenate([_pick(codes, parent), code[:, :, None]], 2)
    cache = jax.tree.map(lambda x, p=parent: _pick_rows(x, p), cache)
  valid = (state >= 0) & jnp.isfinite(scores)
  return Beams(jnp.where(valid, state, -1), codes, scores, valid)


def _pick(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Returns `x[b, parent[b, n]]` of an `x` whose axes begin with b, m."""
  index = parent.reshape(parent.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1)


def _pick_rows(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Like `_pick` where b and m are one axis."""
  num_requests, num_new = parent.shape
  x = x.reshape(num_requests, -1, *x.shape[1:])
  return _pick(x, parent).reshape(num_requests * num_new, *x.shape[2:])
