"""The loss of TIGER over the codes of Semantic IDs."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8, Integer
import optax

from tiger_jax.catalog.trie import Children, Trie
from tiger_jax.models.history_bias import Candidates, SeenItems


class TargetChildren(NamedTuple):
  """The codes over which a trie softmax normalizes one level of each target.

  Attributes:
    children: The codes that may follow the target's earlier codes.
    place: The position of the target's code in `children`.
    seen: Which of `children` lead to items of the history, see `Candidates`;
      None if unknown.
  """

  children: Children
  place: Integer[Array, 'b t']
  seen: Int8[Array, 'b t w'] | None

  @property
  def candidates(self) -> Candidates:
    """The codes that the model scores."""
    return Candidates(self.children.codes, self.seen)


def target_children(
  trie: Trie,
  target_codes: Int[Array, 'b t l'],
  seen_items: SeenItems | None = None,
) -> list[TargetChildren]:
  """Returns the valid codes at each level of the targets.

  For a target that is not in the trie, `place` has no meaning. `seen_items` are
  the items before each target; None leaves `TargetChildren.seen` unknown.
  """
  shape = target_codes.shape[:2]
  prefixes = jax.tree.map(
    lambda x: jnp.broadcast_to(x, shape), trie.root(shape[0])
  )
  per_level = []
  for level in range(target_codes.shape[2]):
    code = target_codes[..., level]
    children = trie.children(level, prefixes)
    place = trie.place(level, prefixes, code)
    seen = None
    if seen_items:
      seen = seen_items.mark(level, target_codes, children.valid.shape[2])
    per_level.append(TargetChildren(children, place, seen))
    if level + 1 < target_codes.shape[2]:
      prefixes = trie.descend(level, prefixes, code)
  return per_level


def cross_entropy(
  logits: Sequence[Float[Array, '*b _v']],
  target_codes: Int[Array, '*b l'],
  weight: Float[Array, '*b'],
  children: Sequence[TargetChildren] | None = None,
) -> Float[Array, ' l']:
  """Returns the mean cross-entropy at each level, in nats.

  Args:
    logits: The logits of each level, for all codes or for those of `children`.
    target_codes: The Semantic IDs of the targets.
    weight: 1 for a target and 0 for padding.
    children: The valid codes of each level, over which the probabilities are
      normalized (Wang et al., 2025). None normalizes them over all codes.
  """
  if children is None:
    per_level = [
      optax.softmax_cross_entropy_with_integer_labels(
        x, target_codes[..., level]
      )
      for level, x in enumerate(logits)
    ]
  else:
    per_level = [
      _trie_cross_entropy(x, valid.children, valid.place)
      for x, valid in zip(logits, children, strict=True)
    ]
  total = jnp.maximum(weight.sum(), 1)
  return jnp.stack([(x * weight).sum() / total for x in per_level])


def _trie_cross_entropy(
  logits: Float[Array, 'b t w'],
  children: Children,
  place: Integer[Array, 'b t'],
) -> Float[Array, 'b t']:
  # The logit of padding, which may not be in the trie, must be finite.
  target = jnp.take_along_axis(logits, place[..., None], axis=2, mode='clip')
  return jax.nn.logsumexp(children.mask(logits), axis=2) - target[..., 0]
