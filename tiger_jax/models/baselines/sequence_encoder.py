"""The Transformer of SASRec and BERT4Rec: learnt positions, layer norms."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from tiger_jax.config import ModelConfig
from tiger_jax.models.dropout import Dropout
from tiger_jax.models.transformer import Attention, Mlp


class SequenceEncoder(nn.Module):
  """Blocks of self-attention and MLP, normalised before each.

  If `causal`, an item sees only itself and earlier ones.
  """

  config: ModelConfig
  num_positions: int
  causal: bool

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n d'],
    real: Bool[Array, 'b n'],
    deterministic: bool,
  ) -> Float[Array, 'b n d']:
    """Encodes vectors of items; `real` says which of them are items at all."""
    c = self.config
    dtype = jnp.dtype(c.dtype)
    drop = Dropout(c.dropout)
    num = x.shape[1]
    positions = self.param(
      'positions', nn.initializers.normal(0.02), (self.num_positions, c.d_model)
    )
    seen = real[:, None]
    if self.causal:
      seen = seen & jnp.asarray(np.tri(num, dtype=bool))[None]
    # As in SASRec, which learns half as fast without (benchmarks/RESULTS.md).
    x = x * c.d_model**0.5 + positions[None, :num]
    x = drop(x.astype(dtype), deterministic)
    for layer in range(c.num_encoder_layers):
      # At first the blocks add nothing: what follows an item is like the item,
      # which is a better start than a random map of it.
      attention = Attention(
        c.num_heads,
        c.head_dim,
        c.dropout,
        dtype,
        out_init=nn.initializers.zeros,
        name=f'attention_{layer}',
      )
      y = nn.LayerNorm(dtype=dtype, name=f'attention_norm_{layer}')(x)
      y = attention(y, attention.keys_values(y), seen, None, deterministic)
      x = x + drop(y, deterministic)
      y = nn.LayerNorm(dtype=dtype, name=f'mlp_norm_{layer}')(x)
      y = Mlp(
        c.mlp_dim,
        c.dropout,
        dtype,
        out_init=nn.initializers.zeros,
        name=f'mlp_{layer}',
      )(y, deterministic)
      x = x + drop(y, deterministic)
    return nn.LayerNorm(name='final_norm')(x)
