"""The Transformer of SASRec, BERT4Rec and VQ-Rec."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from tiger_jax.config import ModelConfig
from tiger_jax.models.dropout import Dropout
from tiger_jax.models.transformer import Attention, Mlp


class SequenceEncoder(nn.Module):
  """Pre-norm blocks of self-attention and MLP, with learned positions.

  If `causal`, an item attends only to itself and to earlier items.
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
    """Encodes item vectors; `real` is false for padding."""
    c = self.config
    dtype = jnp.dtype(c.dtype)
    drop = Dropout(c.dropout)
    length = x.shape[1]
    positions = self.param(
      'positions', nn.initializers.normal(0.02), (self.num_positions, c.d_model)
    )
    visible = real[:, None]
    if self.causal:
      visible = visible & jnp.asarray(np.tri(length, dtype=bool))[None]
    # As in SASRec, the item vectors are multiplied by sqrt(d_model). Without
    # this factor, the model learns half as fast (benchmarks/RESULTS.md).
    x = x * c.d_model**0.5 + positions[None, :length]
    x = drop(x.astype(dtype), deterministic)
    for layer in range(c.num_encoder_layers):
      # The output layers of attention and MLP start at zero, so that untrained
      # blocks return their inputs. At each position, the initial query is then
      # similar to the vector of the item, which is a better start than a random
      # projection.
      attention = Attention(
        c.num_heads,
        c.head_dim,
        c.dropout,
        dtype,
        out_init=nn.initializers.zeros,
        name=f'attention_{layer}',
      )
      y = nn.LayerNorm(dtype=dtype, name=f'attention_norm_{layer}')(x)
      y = attention(y, attention.keys_values(y), visible, None, deterministic)
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
