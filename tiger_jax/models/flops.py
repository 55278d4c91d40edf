"""Floating-point operations of TIGER, to compute device utilization (MFU)."""

from collections.abc import Sequence

from jaxtyping import Int
import numpy as np

from tiger_jax.config import ModelConfig


def training_flops(
  config: ModelConfig,
  level_sizes: Sequence[int],
  lengths: Int[np.ndarray, ' b'],
) -> int:
  """Returns the useful floating-point operations of a training step.

  The count covers the matrix products for real tokens and for pairs of tokens
  that attend to each other. It excludes padding and recomputation. With a trie
  softmax, it also excludes the prefix heads and the history bias: they score
  only the valid codes, whose number depends on the catalog. The backward pass
  counts as twice the forward pass (PaLM, Chowdhery et al., 2022, appendix B).

  Args:
    config: The sizes of the model.
    level_sizes: The number of codes at each level.
    lengths: The number of items in each history of the batch.
  """
  c, levels = config, len(level_sizes)
  heads_dim = c.num_heads * c.head_dim
  num_items = np.asarray(lengths, np.int64)
  tokens = num_items * levels + (c.num_user_tokens > 0)
  if c.causal_encoder:
    targets = num_items
    # In the decoder, each token of target i attends to the tokens of the first
    # i items. In the encoder, each token of item i attends to the same tokens.
    num_attended = levels**2 * num_items * (num_items + 1) // 2
  else:
    targets = np.ones_like(num_items)
    num_attended = levels * tokens
  pairs = num_attended if c.causal_encoder else tokens**2

  project = 2 * c.d_model * heads_dim
  mlp = 4 * c.d_model * c.mlp_dim
  pair = 4 * heads_dim
  decoded = targets * levels
  encoder = tokens * (4 * project + mlp) + pairs * pair
  decoder = decoded * (6 * project + mlp) + tokens * 2 * project
  decoder += (targets * levels * (levels + 1) // 2 + num_attended) * pair
  num_heads = sum(level_sizes)
  if c.prefix_heads and c.softmax != 'trie':
    num_heads += sum(level_sizes[1:])
  heads = targets * 2 * c.d_model * num_heads
  forward = (
    c.num_encoder_layers * encoder.sum()
    + c.num_decoder_layers * decoder.sum()
    + heads.sum()
  )
  return 3 * int(forward)
