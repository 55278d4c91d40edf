"""Drawing items without replacement, by a search through noisy ranks.

Stochastic beam search (Kool et al., 2019): noise of the Gumbel law on the
log-probability of every item makes the k best a draw of k items, each with its
probability among those that are left. The noise of a prefix is the largest of
what it is continued to, and is drawn first, so that a beam search finds the k
best without looking at every item; what it cannot prove to be among them is as
good as its beams.

Noise is drawn for invalid codes as well, and these are masked afterwards: so
items are drawn in proportion to their probabilities, though nobody knows how
much of a prefix's probability is valid.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32
import numpy as np


class Draws(NamedTuple):
  """What is known of each beam while items are drawn.

  Attributes:
    rngs: Keys of the noise `[b, m]`: of what each beam is continued to.
    log_probs: Log-probabilities at the temperature: of the beams `[b, m]`, or
      after `Sampler.draw` of what they are continued to, `[b, m, v]`.
    rank: These with their noise, `[b, m]` or `[b, m, v]`.
  """

  rngs: Key[Array, 'b m']
  log_probs: Float[Array, 'b m *v']
  rank: Float[Array, 'b m *v']

  def followed(
    self, parent: Int[Array, 'b n'], code: Int[Array, 'b n']
  ) -> 'Draws':
    """Returns the state of beams that continue `parent` with `code`."""
    row = jnp.arange(len(parent))[:, None]
    fold = jax.vmap(jax.vmap(jax.random.fold_in))
    return Draws(
      fold(self.rngs[row, parent], code),
      self.log_probs[row, parent, code],
      self.rank[row, parent, code],
    )


class Sampler(NamedTuple):
  """How items are drawn; the arrays may be traced.

  Attributes:
    seeds: One for each request `[b]`: with the same seed, a request gets the
      same items, whatever it is searched beside; those that are proven, with
      however many beams.
    temperature: Divides the logits, `[]`; above 0. The higher, the more varied
      the items.
    num_levels: Levels that are drawn, `[]`; the codes of the others are the
      most probable ones that follow.
  """

  seeds: UInt32[Array, ' b'] | UInt32[np.ndarray, ' b']
  temperature: Float[Array, ''] | np.float32
  num_levels: Int[Array, ''] | np.int32

  def start(self) -> Draws:
    """Returns the state of one beam for every request."""
    rngs = jax.vmap(jax.random.split)(jax.vmap(jax.random.key)(self.seeds))
    # All items together have log-probability 0, and noise as any prefix has.
    rank = jax.vmap(jax.random.gumbel)(rngs[:, 0])[:, None]
    return Draws(rngs[:, 1:], jnp.zeros_like(rank), rank)

  def draw(
    self, level: int, logits: Float[Array, 'b m v'], draws: Draws
  ) -> Draws:
    """Returns noisy ranks of all codes, none above that of its beam."""
    num_codes = logits.shape[2]
    drawn = level < self.num_levels
    logits = jnp.where(drawn, logits / self.temperature, logits)
    log_probs = jnp.minimum(jax.nn.log_softmax(logits), 0)
    noise = jax.vmap(
      jax.vmap(lambda rng: jax.random.gumbel(rng, (num_codes,)))
    )(draws.rngs)
    rank = draws.rank[:, :, None]
    noisy = draws.log_probs[:, :, None] + log_probs + noise
    most = noisy.max(2, keepdims=True)
    # As if the largest of them had come out at the rank of the beam: equation
    # 11 of the paper, in the form of its appendix B.3.
    gap = rank - noisy + jnp.log(-jnp.expm1(noisy - most))
    conditioned = rank - jnp.maximum(gap, 0) - jnp.log1p(jnp.exp(-jnp.abs(gap)))
    rank = jnp.where(drawn, conditioned, rank + log_probs)
    log_probs = draws.log_probs[:, :, None] + log_probs
    return Draws(draws.rngs, log_probs, rank)
