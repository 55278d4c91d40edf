"""Beam search over Semantic IDs, constrained to the catalogue or not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from tiger_jax.catalog.trie import Trie
from tiger_jax.retrieval import filters, sampling

Cache = Any
StepFn = Callable[
  [int, Int[Array, 'b m'] | None, Cache], tuple[Float[Array, 'b m v'], Cache]
]


class Beams(NamedTuple):
  """The outcome of a search, best first.

  Attributes:
    items: Item rows `[b, m]`, -1 where not valid.
    codes: The Semantic ID of every beam `[b, m, l]`.
    scores: Log-probability `[b, m]`; -inf where the search ran out of items.
    valid: Whether the beam `[b, m]` is an item of the catalogue.
    exact_k: How many of the first entries `[b]` are proven to be what a search
      of any width would return, as no other item ranks as high. The proof holds
      for the computed scores. If e bounds their rounding error, the score of an
      item outside these entries is higher by less than 2e, and only entries
      whose scores differ by less than 2e can exchange ranks in a program with
      other shapes. There is no margin for e, because no useful bound is known
      for a whole network; RELIABILITY.md has measurements.
  """

  items: Int[Array, 'b m']
  codes: Int[Array, 'b m l']
  scores: Float[Array, 'b m']
  valid: Bool[Array, 'b m']
  exact_k: Int[Array, ' b']

  def filled(self, num_beams: int) -> 'Beams':
    """Returns as many beams, those that there are not marked as such."""
    short = (0, num_beams - self.scores.shape[1])
    return Beams(
      jnp.pad(self.items, ((0, 0), short), constant_values=-1),
      jnp.pad(self.codes, ((0, 0), short, (0, 0))),
      jnp.pad(self.scores, ((0, 0), short), constant_values=-jnp.inf),
      jnp.pad(self.valid, ((0, 0), short)),
      self.exact_k,
    )


def beam_search(
  step_fn: StepFn,
  cache: Cache,
  trie: Trie,
  batch_size: int,
  num_beams: int,
  *,
  constrained: bool = True,
  item_filter: filters.ItemFilter | None = None,
  sampler: sampling.Sampler | None = None,
) -> Beams:
  """Finds the most probable Semantic IDs of each request.

  The levels are few and fixed, so the loop is unrolled: no end token, no length
  penalty. The first step runs on one beam. Probabilities are normalised over
  all codes of a level and masked afterwards, so that a constrained search ranks
  items exactly as their full log-probabilities do.

  A prefix never ranks below what it is continued to, so an item that is not
  returned ranks no higher than the best prefix that was ever dropped. What
  ranks above that prefix is proven.

  `step_fn` maps `(level, previous, cache)` to `(logits, cache)` for all beams
  of all requests; `previous` is None at level 0. Arrays in the cache have a row
  for each request at first, and then for each (request, beam) in this order.
  The search keeps `num_beams` beams after every level, or fewer if the first
  levels have fewer codes. If it is not `constrained`, any code may follow any
  other, `valid` says which beams happen to be items, and there can be no
  filter. A sampler draws items instead of taking the most probable. They come
  in the order of the draw, with their log-probabilities as `scores`.
  """
  rank = scores = jnp.zeros((batch_size, 1))
  codes = jnp.zeros((batch_size, 1, 0), jnp.int32)
  items = jnp.zeros((batch_size, 1), jnp.int32)
  dropped = jnp.full((batch_size,), -jnp.inf)
  prefixes = trie.root(batch_size)
  walk = item_filter.start(trie) if item_filter else None
  draws = sampler.start() if sampler else None
  for level in range(len(trie.level_sizes)):
    previous = codes[:, :, -1] if level else None
    logits, cache = step_fn(level, previous, cache)
    children = trie.children(level, prefixes) if constrained else None
    listed = children.codes if children else None
    log_probs = _log_probs(logits, listed)
    if sampler and draws:
      draws = sampler.draw(level, logits, draws)
      candidates = _at(draws.rank, listed)
    else:
      candidates = rank[:, :, None] + log_probs
    if children:
      candidates = jnp.where(children.valid, candidates, -jnp.inf)
    width = candidates.shape[2]
    candidates = candidates.reshape(batch_size, -1)
    if walk:
      candidates, walk = walk.masked(candidates, level, trie, prefixes)

    rank, chosen, best_dropped = _top_k(candidates, num_beams)
    dropped = jnp.maximum(dropped, best_dropped)
    parent, place = chosen // width, chosen % width
    code = place if listed is None else _flat_at(listed, chosen)
    if draws:
      scores = _pick(scores, parent) + _flat_at(log_probs, chosen)
      # Lest what was dropped comes to life again, in the place of another.
      draws = draws.followed(parent, code)._replace(rank=rank)
    else:
      scores = rank
    if walk:
      walk = walk.followed(chosen, candidates.shape[1])
    codes = jnp.concatenate([_pick(codes, parent), code[:, :, None]], 2)
    cache = jax.tree.map(lambda x, p=parent: _pick_rows(x, p), cache)
    if constrained:
      prefixes = jax.tree.map(lambda x, p=parent: _pick(x, p), prefixes)
      if level + 1 < len(trie.level_sizes):
        prefixes = trie.descend(level, prefixes, code)
      else:
        items = trie.item(prefixes, place)
  if not constrained:
    items = trie.lookup(codes)
  valid = (items >= 0) & jnp.isfinite(rank)
  exact_k = (valid & (rank > dropped[:, None])).sum(1)
  scores = jnp.where(jnp.isfinite(rank), scores, -jnp.inf)
  return Beams(jnp.where(valid, items, -1), codes, scores, valid, exact_k)


def _log_probs(
  logits: Float[Array, 'b m v'], codes: Integer[Array, 'b m w'] | None
) -> Float[Array, 'b m _w']:
  """Returns log-probabilities of some codes among all, of all where None."""
  most = logits.max(2, keepdims=True)
  total = jnp.log(jnp.exp(logits - most).sum(2, keepdims=True))
  # Rounding may lift a certain code above 0, and `dropped` would not bound it.
  return jnp.minimum(_at(logits, codes) - most - total, 0)


def _top_k(
  candidates: Float[Array, 'b n'], k: int
) -> tuple[Float[Array, 'b k'], Int[Array, 'b k'], Float[Array, ' b']]:
  """Returns the k best, where they stand, and the best of the rest."""
  n = candidates.shape[1]
  if n <= k:
    best, chosen = jax.lax.top_k(candidates, n)
    return best, chosen, jnp.full(len(best), -jnp.inf)
  # Without barriers, XLA sees the slices and sorts all candidates instead: a
  # hundred times slower on a CPU. One barrier for both would abort it where
  # there are several devices.
  best, chosen = map(
    jax.lax.optimization_barrier, jax.lax.top_k(candidates, k + 1)
  )
  return best[:, :k], chosen[:, :k], best[:, k]


def _at(
  x: Float[Array, 'b m v'], codes: Integer[Array, 'b m w'] | None
) -> Float[Array, 'b m _w']:
  """Returns the entries of some codes, of all where None."""
  if codes is None:
    return x
  return jnp.take_along_axis(
    x, codes.astype(jnp.int32), axis=2, mode='promise_in_bounds'
  )


def _flat_at(x: Array, place: Int[Array, 'b n']) -> Array:
  """Returns `x[b]` at places counted over both of its other axes."""
  found = jnp.take_along_axis(
    x.reshape(len(x), -1), place, axis=1, mode='promise_in_bounds'
  )
  return found.astype(jnp.int32) if x.dtype.kind in 'iu' else found


def _pick(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Returns `x[b, parent[b, n]]` of an `x` whose axes begin with b, m."""
  index = parent.reshape(parent.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1, mode='promise_in_bounds')


def _pick_rows(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Like `_pick` where b and m are one axis."""
  num_requests, num_new = parent.shape
  x = x.reshape(num_requests, -1, *x.shape[1:])
  return _pick(x, parent).reshape(num_requests * num_new, *x.shape[2:])
