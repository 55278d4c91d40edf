"""The loss of TIGER over the codes of Semantic IDs."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from tiger_jax.catalog.trie import Trie, take_codes


def cross_entropy(
  logits: Sequence[Float[Array, '*b _v']],
  target_codes: Int[Array, '*b l'],
  weight: Float[Array, '*b'],
  trie: Trie | None = None,
) -> Float[Array, ' l']:
  """Returns the mean cross-entropy at each level, in nats.

  Args:
    logits: The logits of each level.
    target_codes: The Semantic IDs of the targets.
    weight: 1 for a target and 0 for padding.
    trie: The valid IDs. The probabilities are normalized over the codes that
      may follow the target's earlier codes (Wang et al., 2025). None normalizes
      them over all codes of a level.
  """
  if trie is None:
    per_level = [
      optax.softmax_cross_entropy_with_integer_labels(
        x, target_codes[..., level]
      )
      for level, x in enumerate(logits)
    ]
  else:
    per_level = _trie_cross_entropy(trie, logits, target_codes)
  total = jnp.maximum(weight.sum(), 1)
  return jnp.stack([(x * weight).sum() / total for x in per_level])


def _trie_cross_entropy(
  trie: Trie,
  logits: Sequence[Float[Array, '*b _v']],
  target_codes: Int[Array, '*b l'],
) -> list[Float[Array, '*b']]:
  """Returns the cross-entropy of each target over the valid codes."""
  shape = target_codes.shape[:-1]
  # In the trie, each target is a request with one beam.
  codes = target_codes.reshape(-1, 1, target_codes.shape[-1])
  prefixes = trie.root(len(codes))
  per_level = []
  for level, x in enumerate(logits):
    code = codes[:, :, level]
    x = x.reshape(len(codes), 1, -1)
    target = jnp.take_along_axis(x, code[:, :, None], axis=2)[:, :, 0]
    children = trie.children(level, prefixes)
    valid = children.mask(take_codes(x, children.codes))
    loss = jax.nn.logsumexp(valid, axis=2) - target
    per_level.append(loss.reshape(shape))
    if level + 1 < len(logits):
      prefixes = trie.descend(level, prefixes, code)
  return per_level
