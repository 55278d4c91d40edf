"""Sampling of items without replacement, by a beam search with noisy ranks.

Stochastic beam search (Kool et al., 2019) adds Gumbel noise to the
log-probability of every item. The k items with the highest noisy ranks are then
a sample of k items without replacement. The noisy rank of a prefix is the
maximum of the noisy ranks of its continuations, and is drawn first. A beam
search can therefore find the top k without visiting every item. Only results
that the search cannot prove depend on its number of beams.

If probabilities are normalized over all codes, noise is drawn for invalid codes
too; they are masked afterwards. Valid items are thus drawn in proportion to
their probabilities, although the total probability of the valid items with a
given prefix is unknown.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Key, UInt32
import numpy as np

from tiger_jax.catalog.trie import take_codes


class SamplerState(NamedTuple):
  """The state of the beams of a sampling search.

  Before `Sampler.draw`, `log_probs` and `rank` describe the beams, `[b, m]`.
  Afterwards, they describe the continuations of the beams, `[b, m, w]`.

  Attributes:
    rngs: Random keys `[b, m]` for the continuations of each beam.
    log_probs: Log-probabilities at the sampler's temperature.
    rank: Log-probabilities plus noise.
  """

  rngs: Key[Array, 'b m']
  log_probs: Float[Array, 'b m *w']
  rank: Float[Array, 'b m *w']

  def advance(
    self,
    parent: Int[Array, 'b n'],
    place: Int[Array, 'b n'],
    code: Int[Array, 'b n'],
    rank: Float[Array, 'b n'],
  ) -> 'SamplerState':
    """Returns the state of the beams that extend `parent` with `code`.

    Args:
      parent: The beams that are extended.
      place: The position of each code among the continuations of its beam.
      code: The codes.
      rank: The ranks of the extended beams; -inf for masked beams.
    """
    row = jnp.arange(len(parent))[:, None]
    fold = jax.vmap(jax.vmap(jax.random.fold_in))
    log_probs = self.log_probs[row, parent, place]
    return SamplerState(
      fold(self.rngs[row, parent], code),
      # A masked beam must keep the rank -inf. If `log_probs` were -inf too, the
      # next rank would be NaN.
      jnp.where(jnp.isfinite(rank), log_probs, 0),
      rank,
    )


class Sampler(NamedTuple):
  """The settings of a sampling search; the arrays may be traced.

  Attributes:
    seeds: A seed for each request `[b]`. A request with the same seed gets the
      same items in every batch. Items that the search proves also do not depend
      on the number of beams.
    temperature: Positive divisor of the logits, `[]`. Higher values give more
      varied items.
    num_levels: The number of levels to sample, `[]`. At later levels, the most
      probable codes are taken.
  """

  seeds: UInt32[Array, ' b'] | UInt32[np.ndarray, ' b']
  temperature: Float[Array, ''] | np.float32
  num_levels: Int[Array, ''] | np.int32

  def start(self) -> SamplerState:
    """Returns the state with one empty beam per request."""
    rngs = jax.vmap(jax.random.split)(jax.vmap(jax.random.key)(self.seeds))
    # The empty prefix has log-probability 0, so its rank is only noise.
    rank = jax.vmap(jax.random.gumbel)(rngs[:, 0])[:, None]
    return SamplerState(rngs[:, 1:], jnp.zeros_like(rank), rank)

  def draw(
    self,
    level: int,
    logits: Float[Array, 'b m w'],
    state: SamplerState,
    level_size: int,
    codes: Integer[Array, 'b m w'] | None = None,
  ) -> SamplerState:
    """Draws the noisy rank of each code, at most the rank of its beam.

    Args:
      level: The level of the codes.
      logits: The logits of the codes; -inf for codes that cannot be drawn.
      state: The state of the beams.
      level_size: The number of codes of the level.
      codes: The codes that `logits` describes; None for all codes of the level.
    """
    is_sampled = level < self.num_levels
    logits = jnp.where(is_sampled, logits / self.temperature, logits)
    log_probs = jnp.minimum(jax.nn.log_softmax(logits), 0)
    # The noise of a code does not depend on the other codes.
    noise = jax.vmap(
      jax.vmap(lambda rng: jax.random.gumbel(rng, (level_size,)))
    )(state.rngs)
    noise = take_codes(noise, codes)
    rank = state.rank[:, :, None]
    noisy = state.log_probs[:, :, None] + log_probs + noise
    max_noisy = noisy.max(2, keepdims=True)
    # Condition the noisy values on their maximum, which is the rank of the
    # beam: equation 11 of the paper, in the stable form of its appendix B.3.
    gap = rank - noisy + jnp.log(-jnp.expm1(noisy - max_noisy))
    conditioned = rank - jnp.maximum(gap, 0) - jnp.log1p(jnp.exp(-jnp.abs(gap)))
    rank = jnp.where(is_sampled, conditioned, rank + log_probs)
    log_probs = state.log_probs[:, :, None] + log_probs
    return SamplerState(state.rngs, log_probs, rank)
