"""Beam search over Semantic IDs, with or without a constraint to valid IDs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from tiger_jax.catalog.trie import Trie, take_codes
from tiger_jax.models.history_bias import Candidates
from tiger_jax.retrieval import filters, mixture, sampling

Cache = Any
StepFn = Callable[
  [int, Int[Array, 'b m'] | None, Candidates, Cache],
  tuple[Float[Array, 'b m _w'], Cache],
]


class Beams(NamedTuple):
  """The results of a search, best first.

  Attributes:
    items: Item rows `[b, m]`; -1 where not valid.
    codes: The Semantic ID of every beam `[b, m, l]`.
    scores: Log-probabilities `[b, m]`, of the mixture if there is one; -inf
      where the search ran out of items.
    valid: Whether the beam `[b, m]` is an item of the catalog.
    exact_k: The number of leading entries `[b]` that are proven. No other item
      ranks as high as a proven entry, so a search with more beams returns the
      same entries. The proof is about the computed scores. Suppose that their
      rounding error is at most e. The exact score of any other item then
      exceeds the exact score of a proven entry by less than 2e. A program with
      different array shapes can swap two entries only if their scores differ by
      less than 2e. `exact_k` does not account for e, because no useful bound of
      e is known for a whole network. RELIABILITY.md reports measurements.
  """

  items: Int[Array, 'b m']
  codes: Int[Array, 'b m l']
  scores: Float[Array, 'b m']
  valid: Bool[Array, 'b m']
  exact_k: Int[Array, ' b']

  def padded(self, num_beams: int) -> 'Beams':
    """Pads the beams to `num_beams`; the padding is marked invalid."""
    padding = (0, num_beams - self.scores.shape[1])
    return Beams(
      jnp.pad(self.items, ((0, 0), padding), constant_values=-1),
      jnp.pad(self.codes, ((0, 0), padding, (0, 0))),
      jnp.pad(self.scores, ((0, 0), padding), constant_values=-jnp.inf),
      jnp.pad(self.valid, ((0, 0), padding)),
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
  normalize_children: bool = False,
  item_filter: filters.ItemFilter | None = None,
  sampler: sampling.Sampler | None = None,
  successors: mixture.Successors | None = None,
  history: filters.ItemFilter | None = None,
) -> Beams:
  """Finds the most probable Semantic IDs for each request.

  All IDs have the same small number of levels. The loop over levels is
  therefore unrolled, and needs neither an end token nor a length penalty.

  A prefix never ranks below its continuations. An item that is not returned
  thus ranks no higher than the best prefix that the search dropped. Returned
  items that rank above this prefix are proven to be the best.

  Args:
    step_fn: Maps `(level, previous, candidates, cache)` to `(logits, cache)`,
      for all beams of all requests. `previous` is None at level 0, where each
      request has one beam.
    cache: A pytree of arrays that initially have a row for each request. After
      level 0, they have a row for each (request, beam), in this order.
    trie: The index of the valid IDs.
    batch_size: The number of requests.
    num_beams: The number of beams to keep after each level. Fewer are kept if
      there are fewer candidates.
    constrained: Whether to follow valid IDs only. If False, every code of a
      level may follow every prefix, and `Beams.valid` marks the beams that are
      items.
    normalize_children: Whether the probabilities are normalized over the codes
      that may follow a prefix; only for a constrained search. If False, they
      are normalized over all codes of a level, and invalid codes are masked
      afterwards.
    item_filter: The items that each request allows or excludes; only for a
      constrained search.
    sampler: Samples items instead of taking the most probable ones. Sampled
      items are in descending order of their noisy ranks (see `sampling`).
      `Beams.scores` still holds their log-probabilities.
    successors: The transitions of each request. The search then ranks by the
      probabilities of a mixture (see `mixture`); only for a constrained search
      without a sampler.
    history: The items of each history, from which `Candidates.seen` is
      computed; only with `normalize_children`. If None, `seen` is None.
  """
  rank = scores = jnp.zeros((batch_size, 1))
  codes = jnp.zeros((batch_size, 1, 0), jnp.int32)
  items = jnp.zeros((batch_size, 1), jnp.int32)
  dropped = jnp.full((batch_size,), -jnp.inf)
  prefixes = trie.root(batch_size)
  filter_state = item_filter.start(trie) if item_filter else None
  sampler_state = sampler.start() if sampler else None
  mixture_state = successors.start(trie) if successors else None
  history_state = history.start(trie) if history else None
  for level in range(len(trie.level_sizes)):
    previous = codes[:, :, -1] if level else None
    children = trie.children(level, prefixes) if constrained else None
    # The codes of the candidates, the codes that have logits, and the entries
    # of the logits that belong to the candidates. None stands for all.
    listed = children.codes if children else None
    scored, selected = (listed, None) if normalize_children else (None, listed)
    seen = None
    if children and history_state:
      seen, history_state = history_state.mark_seen(
        level, trie, prefixes, children.valid.shape[2]
      )
    logits, cache = step_fn(level, previous, Candidates(scored, seen), cache)
    if children and normalize_children:
      logits = children.mask(logits)
    log_probs = _log_probs(logits, selected)
    if sampler and sampler_state:
      sampler_state = sampler.draw(
        level, logits, sampler_state, trie.level_sizes[level], scored
      )
      candidates = take_codes(sampler_state.rank, selected)
    elif mixture_state:
      candidates, mixture_state = mixture_state.mix(
        log_probs, rank, level, trie, prefixes
      )
    else:
      candidates = rank[:, :, None] + log_probs
    if children:
      candidates = jnp.where(children.valid, candidates, -jnp.inf)
    width = candidates.shape[2]
    candidates = candidates.reshape(batch_size, -1)
    if filter_state:
      candidates, filter_state = filter_state.mask(
        candidates, level, trie, prefixes
      )

    rank, chosen, best_dropped = _top_k(candidates, num_beams)
    dropped = jnp.maximum(dropped, best_dropped)
    parent, place = chosen // width, chosen % width
    code = place if listed is None else _take_flat(listed, chosen)
    if sampler_state:
      scores = _gather_beams(scores, parent) + _take_flat(log_probs, chosen)
      position = place if normalize_children else code
      sampler_state = sampler_state.advance(parent, position, code, rank)
    else:
      scores = rank
    if filter_state:
      filter_state = filter_state.advance(chosen, candidates)
    if history_state:
      history_state = history_state.advance(chosen, candidates)
    if mixture_state:
      mixture_state = mixture_state.advance(chosen)
    codes = jnp.concatenate([_gather_beams(codes, parent), code[:, :, None]], 2)
    cache = jax.tree.map(lambda x, p=parent: _gather_cache(x, p), cache)
    if constrained:
      prefixes = jax.tree.map(lambda x, p=parent: _gather_beams(x, p), prefixes)
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
  """Returns the log-probabilities of `codes`, or of all codes if None."""
  max_logit = logits.max(2, keepdims=True)
  total = jnp.log(jnp.exp(logits - max_logit).sum(2, keepdims=True))
  # Rounding may give a code of probability 1 a positive log-probability. An
  # item would then rank above its prefix, and `dropped` would not be an upper
  # bound of its rank.
  return jnp.minimum(take_codes(logits, codes) - max_logit - total, 0)


def _top_k(
  candidates: Float[Array, 'b n'], k: int
) -> tuple[Float[Array, 'b k'], Int[Array, 'b k'], Float[Array, ' b']]:
  """Returns the k best values, their positions, and the next best value."""
  n = candidates.shape[1]
  if n <= k:
    best, chosen = jax.lax.top_k(candidates, n)
    return best, chosen, jnp.full(len(best), -jnp.inf)
  # Without barriers, XLA fuses the slices into a full sort, which is a hundred
  # times slower on a CPU. A single barrier for both arrays makes XLA abort with
  # several devices.
  best, chosen = map(
    jax.lax.optimization_barrier, jax.lax.top_k(candidates, k + 1)
  )
  return best[:, :k], chosen[:, :k], best[:, k]


def _take_flat(x: Array, index: Int[Array, 'b n']) -> Array:
  """Returns entries of `x[b]` by their index in the flattened `x[b]`."""
  entries = jnp.take_along_axis(
    x.reshape(len(x), -1), index, axis=1, mode='promise_in_bounds'
  )
  return entries.astype(jnp.int32) if x.dtype.kind in 'iu' else entries


def _gather_beams(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Returns `x[b, parent[b, n]]`; the first axes of `x` are b, m."""
  index = parent.reshape(parent.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1, mode='promise_in_bounds')


def _gather_cache(x: Array, parent: Int[Array, 'b n']) -> Array:
  """Does the same as `_gather_beams` for arrays with b and m in one axis."""
  num_requests, num_new = parent.shape
  x = x.reshape(num_requests, -1, *x.shape[1:])
  return _gather_beams(x, parent).reshape(num_requests * num_new, *x.shape[2:])
