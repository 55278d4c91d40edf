"""How much arithmetic TIGER needs, to judge how well a device is used."""

from collections.abc import Sequence

from jaxtyping import Int
import numpy as np

from tiger_jax.config import ModelConfig


def training_flops(
  config: ModelConfig,
  level_sizes: Sequence[int],
  lengths: Int[np.ndarray, ' b'],
) -> int:
  """Returns the floating-point operations that a batch of histories needs.

  Counted are the matrix products on real tokens and on pairs of tokens that see
  each other: padding, and what is recomputed, does not count as useful. The
  backward pass needs twice the products of the forward pass (as in appendix B
  of PaLM, Chowdhery et al., 2022).
  """
  c, levels = config, len(level_sizes)
  heads_dim = c.num_heads * c.head_dim
  items = np.asarray(lengths, np.int64)
  tokens = items * levels + (c.num_user_tokens > 0)
  if c.causal_encoder:
    targets = items
    # Target i, and every token of item i, see the tokens of i items.
    seen = levels**2 * items * (items + 1) // 2
  else:
    targets = np.ones_like(items)
    seen = levels * tokens
  pairs = seen if c.causal_encoder else tokens**2

  project = 2 * c.d_model * heads_dim
  mlp = 4 * c.d_model * c.mlp_dim
  pair = 4 * heads_dim
  decoded = targets * levels
  encoder = tokens * (4 * project + mlp) + pairs * pair
  decoder = decoded * (6 * project + mlp) + tokens * 2 * project
  decoder += (targets * levels * (levels + 1) // 2 + seen) * pair
  heads = targets * 2 * c.d_model * sum(level_sizes)
  forward = (
    c.num_encoder_layers * encoder.sum()
    + c.num_decoder_layers * decoder.sum()
    + heads.sum()
  )
  return 3 * int(forward)
